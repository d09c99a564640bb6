#!/usr/bin/env python3
"""Makes the golden files of the chat template tests with Python's jinja2.

Requirements: Python 3.11, jinja2==3.1.6 (markupsafe==3.0.3).

    python3 ops/golden/make-templates.py

writes Tests/PromptTests/Fixtures/templates/{layouts,snippets,random,moments}.json and templates/*.jinja. Running it again
changes nothing: the clock is fixed and the random templates come from a printed seed.
"""

import copy
import datetime
import json
import pathlib
import random

import jinja2
import jinja2.ext
import jinja2.sandbox

OUT = pathlib.Path(__file__).resolve().parents[2] / "Tests/PromptTests/Fixtures/templates"
NOW = datetime.datetime(2024, 7, 26, 9, 5, 3)
SEED = 20240726


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: marks the model's words; renders its body in a scope of its own."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_pass"), [], [], body).set_lineno(line)

    def _pass(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda format: NOW.strftime(format)
    return env


ENV = environment()


def kind(error):
    """The code our interpreter gives for this failure."""
    if isinstance(error, SyntaxError):  # of the Python code that jinja2 makes
        return "template_syntax"
    if isinstance(error, OverflowError) and "MAX_RANGE" in str(error):
        return "template_limit"
    if "No filter named" in str(error) or "No test named" in str(error):
        return "template_unsupported"
    if "access to attribute" in str(error):
        return "template_undefined"
    if isinstance(error, jinja2.exceptions.TemplateAssertionError):
        return "template_unsupported"
    if isinstance(error, jinja2.exceptions.TemplateSyntaxError):
        return "template_syntax"
    if isinstance(error, jinja2.exceptions.SecurityError):
        return "template_evaluation"
    if isinstance(error, jinja2.exceptions.UndefinedError):
        return "template_undefined"
    if isinstance(error, jinja2.exceptions.TemplateRuntimeError):
        return "template_evaluation"
    if isinstance(error, jinja2.exceptions.TemplateError):
        return "template_raised"
    return "template_evaluation"


def render(source, variables):
    try:
        return {"text": ENV.from_string(source).render(**copy.deepcopy(variables))}
    except Exception as error:  # whatever Python throws is the expected answer
        answer = {"error": kind(error)}
        if answer["error"] == "template_raised":
            answer["message"] = str(error)
        return answer


# ---------------------------------------------------------------------------------------------------------------------
# Layouts: what the families' templates do, in our own words. The facts (markers, order, default texts) are theirs.

CHATML = """\
{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

QWEN25 = """\
{%- set has_tools = tools is defined and tools %}
{%- set given_system = messages and messages[0].role == 'system' %}
{%- set preset = 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' %}
{{- '<|im_start|>system\\n' ~ (messages[0].content if given_system else preset) }}
{%- if has_tools %}
    {{- "\\n\\n# Tools\\n\\nCall functions when they help.\\n\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nAnswer with <tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call>" }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA31 = """\
{#- Header, text, end of turn: every message is laid out by the same macro. -#}
{%- macro turn(role, text) -%}
<|start_header_id|>{{ role }}<|end_header_id|>

{{ text | trim }}<|eot_id|>
{%- endmacro -%}
{{- bos_token }}
{%- if not tools is defined or not tools %}{% set tools = none %}{% endif %}
{%- set date = date_string if date_string is defined else (strftime_now('%d %b %Y') if use_clock is defined else '26 Jul 2024') %}
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}
{%- if tools is not none %}
    {{- 'Environment: ipython\\n' }}
{%- endif %}
{{- 'Cutting Knowledge Date: December 2023\\n' }}
{{- 'Today Date: ' + date + '\\n\\n' }}
{{- system }}
{{- '<|eot_id|>' }}
{%- if tools is not none %}
    {%- if messages | length == 0 %}
        {{- raise_exception('Tools need a first user message to stand in.') }}
    {%- endif %}
    {%- set first = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' }}
    {{- 'Answer with a function call where one fits:\\n\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson(indent=4) }}
        {{- '\\n\\n' }}
    {%- endfor %}
    {{- first + '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- turn(message['role'], message['content']) }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls | length == 1 %}
            {{- raise_exception('Only one call at a time!') }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- call.arguments | tojson }}
        {{- '}' }}
        {{- '<|eot_id|>' }}
    {%- elif message.role == 'tool' or message.role == 'ipython' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

MISTRAL = """\
{%- if messages and messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr('role', 'equalto', 'user') | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == 'tool' or message.role == 'tool_results' or message.tool_calls is defined) %}
        {%- if (message['role'] == 'user') != (ns.index % 2 == 0) %}
            {{- raise_exception('After the optional system message, roles must alternate user and assistant') }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- '[AVAILABLE_TOOLS]@[' }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != 'return' %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val | tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ', ' }}
                    {%- endif %}
                {%- endfor %}
                {{- '}}' }}
                {%- if not loop.last %}
                    {{- ', ' }}
                {%- else %}
                    {{- ']' }}
                {%- endif %}
            {%- endfor %}
            {{- '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- '[INST]@' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}
        {%- else %}
            {{- '[INST]@' + message['content'] + '[/INST]' }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- '[TOOL_CALLS]@[' }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function | tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id | length != 9 %}
                {{- raise_exception('Tool call ids must be nine letters or digits!') }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ', ' }}
            {%- else %}
                {{- ']' + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message['role'] == 'assistant' %}
        {%- generation %}
        {{- '@' + message['content'] | trim + eos_token }}
        {%- endgeneration %}
    {%- elif message['role'] == 'tool_results' or message['role'] == 'tool' %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS]@{"content": ' + content | string + ', ' }}
        {%- if not message.tool_call_id is defined or message.tool_call_id | length != 9 %}
            {{- raise_exception('Tool call ids must be nine letters or digits!') }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('Roles are user, assistant, tool and one first system') }}
    {%- endif %}
{%- endfor %}
"""

GRANITE30 = """\
{%- if tools %}
    {{- '<|start_of_role|>available_tools<|end_of_role|>\\n' }}
    {%- for tool in tools %}
    {{- tool | tojson(indent=4) }}
    {%- if not loop.last %}
        {{- '\\n\\n' }}
    {%- endif %}
    {%- endfor %}
    {{- '<|end_of_text|>\\n' }}
{%- endif %}
{%- set heads = {'system': '', 'user': '', 'assistant': '', 'tool_response': ''} %}
{%- for message in messages %}
    {%- if message['role'] in heads %}
    {{- '<|start_of_role|>%s<|end_of_role|>%s<|end_of_text|>\\n' % (message['role'], message['content']) }}
    {%- elif message['role'] == 'assistant_tool_call' %}
    {{- '<|start_of_role|>assistant<|end_of_role|><|tool_call|>' + message['content'] + '<|end_of_text|>\\n' }}
    {%- endif %}
    {%- if loop.last and add_generation_prompt %}
    {{- '<|start_of_role|>assistant<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}
"""

PHI3 = """\
{% for message in messages %}
{% if message['role'] == 'system' and message['content'] %}
{{ '<|system|>\\n' + message['content'] + '<|end|>\\n' }}
{%- elif message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + '<|end|>\\n' }}
{%- elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endif %}
{%- endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}
"""

# The text in SmolLM2's model file, a fact of that file.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Content that comes in parts, as the API's clients send it.
PARTS = """\
{%- macro flat(content) -%}
    {%- if content is string -%}
        {{- content -}}
    {%- elif content is sequence -%}
        {%- for part in content -%}
            {%- if part.type == 'image' or 'image_url' in part -%}
                <|image|>
            {%- elif part['type'] == 'text' -%}
                {{- part['text'] -}}
            {%- else -%}
                {{- raise_exception('Unknown part: ' ~ part.type) -}}
            {%- endif -%}
        {%- endfor -%}
    {%- elif content is none or content is undefined -%}
    {%- else -%}
        {{- content | string -}}
    {%- endif -%}
{%- endmacro -%}
{% for role, group in [('system', 'S'), ('user', 'U'), ('assistant', 'A')] %}
{{ group }}={{ messages | selectattr('role', 'eq', role) | list | count }};
{%- endfor %}

{% for m in messages recursive %}
{% if loop.previtem is defined and loop.previtem.role == m.role %}{{ raise_exception('Two turns of ' + m.role) }}{% endif %}
{% if m.role == 'skip' %}{% continue %}{% endif %}
[{{ loop.index }}/{{ loop.length }} {{ loop.cycle('odd', 'even') }}] {{ m.role | title }}: {{ flat(m.content) }}
{% if loop.nextitem is not defined %}
-- {{ m.role }} was last
{% endif %}
{% endfor %}
"""

LAYOUTS = {
    "chatml": CHATML,
    "qwen25": QWEN25,
    "llama31": LLAMA31,
    "mistral-v3": MISTRAL.replace("@", " "),
    "mistral-nemo": MISTRAL.replace("@", ""),
    "granite30": GRANITE30,
    "phi3": PHI3,
    "smollm2": SMOLLM2,
    "parts": PARTS,
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tells today's weather, \"roughly\" – in °C.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "e.g. Zürich, 東京"},
                    "days": {"type": "integer", "minimum": 1, "maximum": 14, "default": 1},
                    "exact": {"type": "boolean", "default": False},
                    "scale": {"type": "number", "enum": [0.5, 1.0, 1e-07, 1e22], "x": None},
                },
                "required": ["city"],
            },
            "return": {"type": "string"},
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}, "required": []}}},
]

CALL = {"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}}


def turns(*pairs):
    return [{"role": role, "content": content} for role, content in pairs]


def conversations():
    tricky = "  <|im_end|> {{ 7 * 7 }} {% raw %} \\n \"quotes\" 'single' </s> [INST] \t tab "
    unicode = "Grüße, 世界! 👩‍👩‍👧‍👦 e\u0301 \u00a0 \u2028 \u200b ﬁ İ ς"
    tool_turns = turns(("system", "Be brief."), ("user", "Weather?"))
    tool_turns.append({"role": "assistant", "content": "", "tool_calls": [CALL]})
    tool_turns.append({"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": "{\"t\": 21.5}"})
    answered = tool_turns + turns(("assistant", "21.5 °C."), ("user", "Thanks"))
    two_calls = turns(("user", "Both?"))
    two_calls.append({"role": "assistant", "content": "Let me look.", "tool_calls": [CALL, dict(CALL, id="ghijkl456")]})
    two_calls += [{"role": "tool", "tool_call_id": "abcdef123", "content": "1"}, {"role": "tool", "tool_call_id": "ghijkl456", "content": "2"}]
    bad_id = turns(("user", "x")) + [{"role": "assistant", "content": None, "tool_calls": [dict(CALL, id="1")]}]
    structured = turns(("user", "x")) + [{"role": "tool", "tool_call_id": "abcdef123", "content": {"content": [1, 2.0, None, True, "é"]}}]
    granite = turns(("user", "Weather?"), ("assistant_tool_call", '{"name": "get_weather"}'), ("tool_response", "21"), ("assistant", "21."))
    parts = turns(("user", [{"type": "text", "text": "What is "}, {"type": "image"}, {"type": "text", "text": "?"}]), ("assistant", "A cat."))
    return {
        "user": turns(("user", "Hi")),
        "system": turns(("system", "Be kind."), ("user", "Hi")),
        "turns": turns(("user", "1"), ("assistant", " one "), ("user", "2"), ("assistant", "two"), ("user", "3")),
        "system-turns": turns(("system", " S "), ("user", "1"), ("assistant", "one"), ("user", "2")),
        "answered": turns(("user", "1"), ("assistant", "one")),
        "empty-content": turns(("system", ""), ("user", ""), ("assistant", ""), ("user", " \n ")),
        "no-messages": [],
        "unicode": turns(("system", unicode), ("user", unicode)),
        "special": turns(("user", tricky), ("assistant", tricky), ("user", "\n\nlines\r\nand\rmore\n")),
        "two-users": turns(("user", "1"), ("user", "2")),
        "assistant-first": turns(("assistant", "1"), ("user", "2")),
        "late-system": turns(("user", "1"), ("system", "2"), ("assistant", "3"), ("user", "4")),
        "unknown-role": turns(("user", "1"), ("wizard", "2")),
        "tool-call": tool_turns,
        "tool-answered": answered,
        "two-calls": two_calls,
        "bad-call-id": bad_id,
        "structured": structured,
        "granite-call": granite,
        "parts": parts,
        "null-content": turns(("user", "1"), ("assistant", None), ("user", "2")),
        "number-content": turns(("user", 42)),
        "missing-content": [{"role": "user"}],
        "missing-role": [{"content": "x"}],
        "not-objects": ["x", 1],
        "skip": turns(("user", "1"), ("skip", "x"), ("assistant", "2")),
    }


def layout_cases():
    cases = []
    for name in LAYOUTS:
        for label, messages in conversations().items():
            for variant in ("prompt", "no-prompt", "tools", "clock"):
                if variant == "tools" and name in ("chatml", "phi3", "smollm2", "parts"):
                    continue
                if variant == "clock" and (name != "llama31" or label not in ("user", "system")):
                    continue
                if variant == "no-prompt" and label not in ("user", "turns", "answered", "tool-answered", "no-messages"):
                    continue
                case = {"layout": name, "conversation": label, "tools": variant == "tools", "prompt": variant != "no-prompt"}
                variables = {
                    "messages": messages,
                    "tools": TOOLS if variant == "tools" else None,
                    "documents": None,
                    "add_generation_prompt": case["prompt"],
                    "bos_token": "<s>",
                    "eos_token": "</s>",
                }
                case["extra"] = {"use_clock": True} if variant == "clock" else {}
                case.update(render(LAYOUTS[name], {**variables, **case["extra"]}))
                cases.append(case)
    return {"tools": TOOLS, "conversations": conversations(), "cases": cases}


# ---------------------------------------------------------------------------------------------------------------------
# Snippets: one construct each, over one set of variables.

VARIABLES = {
    "s": "Hello, World",
    "u": "Grüße ß 世界 👍 e\u0301",
    "empty": "",
    "ws": " \t a b \n ",
    "q": "it's \"q\" \\ \n \x07 \u200b",
    "n": 7,
    "z": 0,
    "neg": -7,
    "f": 2.5,
    "t": True,
    "no": False,
    "nil": None,
    "l": [3, 1, 2],
    "strs": ["b", "A", "c", "a"],
    "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}],
    "d": {"b": 1, "a": 2, "C": 3},
    "deep": {"x": {"y": [{"z": "found"}]}, "items": "mine", "0": "zero"},
    "people": [
        {"name": "Ann", "age": 30, "tags": ["x"]},
        {"name": "bob", "age": 25, "tags": []},
        {"name": "Cid", "age": 30, "admin": True, "tags": ["y", "z"]},
    ],
    "html": "<a href=\"x\">'&'</a>",
    "multi": "one\n\n  two\nthree\n",
}


def snippet_sources():
    here = pathlib.Path(__file__).resolve().parent / "template-snippets.txt"
    blocks = here.read_text(encoding="utf-8").split("\n----\n")
    sources = []
    for block in blocks:
        if block.startswith("# lines"):
            sources += [line for line in block.split("\n")[1:] if line]
        else:
            sources.append(block)
    return sources


def snippet_cases():
    return {"variables": VARIABLES, "cases": [{"source": source, **render(source, VARIABLES)} for source in snippet_sources()]}


# ---------------------------------------------------------------------------------------------------------------------
# Random templates from a seeded grammar: text, tags, expressions, nested a few levels.


class Writer:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.depth = 0

    def pick(self, *choices):
        return self.random.choice(choices)

    def template(self):
        self.macros = 0
        return self.body(self.random.randint(1, 4))

    def body(self, count):
        return "".join(self.statement() for _ in range(count))

    def text(self):
        return self.pick("a", " ", "\n", " b ", "\n  ", "x\n", "  \n\t", "é", "{", "}", "% ", "# ", "")

    def open(self):
        return self.pick("{%", "{%", "{%-", "{%+")

    def close(self):
        return self.pick("%}", "%}", "-%}", "+%}")

    def tag(self, words):
        return f"{self.open()} {words} {self.close()}"

    def statement(self):
        self.depth += 1
        try:
            choice = self.random.randint(0, 11 if self.depth < 4 else 4)
            if choice <= 1:
                return self.text()
            if choice <= 4:
                return self.pick("{{ ", "{{- ") + self.expression() + self.pick(" }}", " -}}")
            if choice == 5:
                other = self.pick("", self.tag("else") + self.body(1), self.tag(f"elif {self.expression()}") + self.body(1))
                return self.tag(f"if {self.expression()}") + self.body(2) + other + self.tag("endif")
            if choice in (6, 7):
                test = self.pick("", "", f" if {self.expression()}")
                other = self.pick("", self.tag("else") + self.body(1))
                control = self.pick("", "", self.tag("break"), self.tag(f"if {self.expression()}") + self.tag("continue") + self.tag("endif"))
                body = self.body(1) + control + self.pick("", "{{ loop.index }}", "{{ loop.last }}", "{{ loop.previtem }}", "{{ loop.revindex0 }}") + self.body(1)
                return self.tag(f"for {self.pick('x', 'y')} in {self.sequence()}{test}") + body + other + self.tag("endfor")
            if choice == 8:
                return self.tag(f"set {self.pick('x', 'y', 's')} = {self.expression()}")
            if choice == 9:
                return self.tag(f"set {self.pick('x', 'y')}") + self.body(2) + self.tag("endset")
            if choice == 10:
                name = self.pick("m", "k")
                return self.tag(f"macro {name}(a, b={self.expression()})") + self.body(1) + "{{ a }}" + self.tag("endmacro") + "{{ %s(%s) }}" % (name, self.expression())
            return self.text() + self.pick("{#- c -#}", "{# c #}", "{% raw %}{{ x }}{% endraw %}") + self.text()
        finally:
            self.depth -= 1

    def sequence(self):
        return self.pick("l", "strs", "d", "range(3)", "d.items()", "'héy'", "[]", "people", "mixed", "l|sort", "d|dictsort", "l[::-1]", "nothing")

    def expression(self):
        self.depth += 1
        try:
            if self.depth > 5:
                return self.atom()
            a, b = self.expression, self.atom
            return self.pick(
                self.atom,
                self.atom,
                lambda: f"{a()} {self.pick('+', '-', '*', '//', '%', '/', '~', '~')} {b()}",
                lambda: f"{a()} {self.pick('==', '!=', '<', '>=', 'in', 'not in')} {b()}",
                lambda: f"{a()} {self.pick('and', 'or')} {b()}",
                lambda: f"not {a()}",
                lambda: f"({a()})",
                lambda: f"{b()} if {a()} else {b()}",
                lambda: f"[{a()}, {b()}]",
                lambda: f"({a()}, {b()})",
                lambda: f"{{'k': {a()}, {self.pick('1', repr('j'))}: {b()}}}",
                lambda: f"({a()})|{self.filter()}",
                lambda: f"{b()} is {self.pick('', 'not ')}{self.test()}",
                lambda: f"({a()}){self.pick('[0]', '[-1]', '.k', '.name')}",
                lambda: f"({a()}|{self.pick('string', 'string', 'list')}){self.pick('[1:]', '[::-1]', '[:2]', '[-2:]')}",
                lambda: f"({a()}|string).{self.method()}",
            )()
        finally:
            self.depth -= 1

    def atom(self):
        return self.pick("s", "u", "n", "z", "neg", "f", "t", "no", "nil", "l", "strs", "d", "x", "y", "nothing", "1", "-2", "2.5", "'q'", "\"it's\"", "''", "true", "none", "[1, 2]", "people[0]", "deep.x.y", "ws", "q")

    def filter(self):
        return self.pick("upper", "lower", "title", "capitalize", "trim", "length", "list", "first", "last", "string", "tojson", "tojson(indent=2)", "join('-')", "default('d')", "default('d', true)", "int", "float", "abs", "sort", "unique|list", "reverse|list", "min", "max", "sum", "replace('a', 'bb')", "indent(2)", "e", "map('string')|list", "select|list", "reject('none')|list", "batch(2)|list", "round", "count", "dictsort", "items|list")

    def test(self):
        return self.pick("defined", "undefined", "none", "string", "number", "integer", "float", "mapping", "sequence", "iterable", "boolean", "true", "false", "odd", "even", "eq 1", "in [1, 'q']", "lower", "upper", "divisibleby 2", "callable", "gt 1")

    def method(self):
        return self.pick("upper()", "strip()", "split()", "split('l')", "replace('l', 'L')", "startswith('H')", "title()", "find('l')", "lstrip('H')", "rstrip()", "count('l')", "capitalize()", "splitlines()", "rsplit(' ', 1)", "zfill(4)", "islower()")


def random_cases():
    print(f"seed {SEED}")
    cases = []
    size = 0
    seed = SEED
    while len(cases) < 650:
        seed += 1
        source = Writer(seed).template()
        if len(source) > 400:
            continue
        answer = render(source, VARIABLES)
        if " at 0x" in answer.get("text", ""):
            continue  # addresses of iterators, which differ from run to run
        if len(answer.get("text", "")) > 500:
            continue
        cases.append({"seed": seed, "source": source, **answer})
    return {"variables": VARIABLES, "cases": cases}


# ---------------------------------------------------------------------------------------------------------------------
# Moments: the calendar behind strftime_now, at year ends, leap days and anywhere between 1901 and 2199.

MOMENT = "%Y-%m-%d %H:%M:%S|%a %A %b %B|%j %y %I %p %e %U %W %V %G %g %u %w %C|%c|%D|%-d %-m %-H %-I %-j|%k %l|%_d %_m"


def moment_cases():
    chosen = random.Random(SEED)
    moments = [chosen.randrange(-2_177_452_800, 7_258_118_400) for _ in range(60)]
    for year in (1970, 1999, 2000, 2004, 2009, 2015, 2020, 2023, 2024, 2026, 2100):
        for month, day in ((1, 1), (2, 28), (3, 1), (12, 31)):
            moments.append(int(datetime.datetime(year, month, day, 23, 59, 59, tzinfo=datetime.timezone.utc).timestamp()))
    epoch = datetime.datetime(1970, 1, 1)
    return {
        "format": MOMENT,
        "cases": [{"seconds": s, "text": (epoch + datetime.timedelta(seconds=s)).strftime(MOMENT)} for s in moments],
    }


def write(name, value):
    path = OUT / name
    # One case a line: a reviewer reads the differences.
    cases = value.pop("cases")
    head = json.dumps(value, ensure_ascii=False)[:-1]
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    path.write_text(f"{head}, \"cases\": [\n{lines}\n]}}\n", encoding="utf-8")
    print(f"{name}: {len(cases)} cases, {path.stat().st_size} bytes")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, source in LAYOUTS.items():
        (OUT / f"{name}.jinja").write_text(source, encoding="utf-8")
    write("layouts.json", layout_cases())
    write("snippets.json", snippet_cases())
    write("random.json", random_cases())
    write("moments.json", moment_cases())


if __name__ == "__main__":
    main()
