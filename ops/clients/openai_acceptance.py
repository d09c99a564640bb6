#!/usr/bin/env python3
"""Drives a running server with the unmodified `openai` client and checks what its users rely on.

Requirements: openai==1.109.1 (Python 3.9 or later).

    python3 ops/clients/openai_acceptance.py http://127.0.0.1:8080 [--model NAME] [--api-key KEY]

Prints one line a check; exits 0 when all pass, 1 when any fails, 2 on wrong usage.
"""

import argparse
import concurrent.futures
import sys
import time

import openai

CHECKS = []
# What the client shows where no key was given.
NO_KEY = "none"


class NotApplicable(Exception):
    """The server is not set up for this check; said so, and neither passed nor failed."""


def check(function):
    CHECKS.append(function)
    return function


def chat(client, model, **more):
    more.setdefault("messages", [{"role": "user", "content": "Name three colours."}])
    more.setdefault("max_tokens", 16)
    more.setdefault("temperature", 0)
    return client.chat.completions.create(model=model, **more)


def complete(client, model, prompt="The capital of France is", **more):
    more.setdefault("max_tokens", 8)
    more.setdefault("temperature", 0)
    return client.completions.create(model=model, prompt=prompt, **more)


def expect_error(kind, call, status):
    """The call has to raise exactly `kind`, with OpenAI's error fields."""
    try:
        call()
    except openai.APIStatusError as error:
        assert type(error) is kind, f"{type(error).__name__} instead of {kind.__name__}: {error}"
        assert error.status_code == status, error.status_code
        assert error.body["message"] and error.body["type"] and "param" in error.body, error.body
        assert error.request_id, "no x-request-id"
        return error
    raise AssertionError(f"no error at all instead of {kind.__name__}")


@check
def models_are_listed_and_found(client, model):
    assert model in [entry.id for entry in client.models.list().data]
    assert client.models.retrieve(model).object == "model"


@check
def chat_answers(client, model):
    answer = chat(client, model)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.system_fingerprint and answer.created > 1_600_000_000
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 1 <= usage.completion_tokens <= 16
    assert answer._request_id


@check
def streamed_chat_is_the_whole_chat(client, model):
    whole = chat(client, model)
    chunks = list(chat(client, model, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.object == "chat.completion.chunk" for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content, (text, whole.choices[0].message.content)
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


@check
def event_ids_do_not_disturb_and_a_stream_goes_on(client, model):
    """A client that asks for ids of events reads the same stream, and the rest of it after any event's id."""
    more = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0.8, "seed": 7}

    def chunks(**headers):
        return [chunk.to_dict() for chunk in chat(client, model, extra_headers=headers, **more)]

    def same(a, b):
        return [chunk | {"id": 0, "created": 0} for chunk in a] == [chunk | {"id": 0, "created": 0} for chunk in b]

    plain = chunks()
    assert same(plain, chunks(Accept="text/event-stream"))
    with client.chat.completions.with_streaming_response.create(
        model=model, messages=[{"role": "user", "content": "Name three colours."}], max_tokens=16, extra_headers={"Accept": "text/event-stream"}, **more
    ) as response:
        ids = [line[4:] for line in response.iter_lines() if line.startswith("id: ")]
    assert len(ids) == len(plain), (len(ids), len(plain))
    for place in (0, 4, len(plain) - 1):
        assert same(plain[place + 1:], chunks(**{"Last-Event-ID": ids[place]})), place
    error = expect_error(openai.BadRequestError, lambda: chunks(**{"Last-Event-ID": ids[0][:-2]}), 400)
    assert error.code == "invalid_last_event_id", error.code


@check
def stream_without_usage_has_none(client, model):
    chunks = list(chat(client, model, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


@check
def max_completion_tokens_is_obeyed(client, model):
    answer = chat(client, model, max_tokens=None, max_completion_tokens=3, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 3 and answer.choices[0].finish_reason == "length"


@check
def completion_answers_and_streams_the_same(client, model):
    whole = complete(client, model)
    assert whole.object == "text_completion" and whole.id.startswith("cmpl-")
    chunks = list(complete(client, model, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text


@check
def echo_repeats_the_prompt(client, model):
    plain, echoed = complete(client, model), complete(client, model, echo=True)
    assert echoed.choices[0].text == "The capital of France is" + plain.choices[0].text


@check
def list_prompts_answer_in_order(client, model):
    alone = [complete(client, model, prompt).choices[0].text for prompt in ("One, two,", "A, B,")]
    both = complete(client, model, ["One, two,", "A, B,"])
    assert [choice.index for choice in both.choices] == [0, 1]
    assert [choice.text for choice in both.choices] == alone


@check
def token_id_prompts_are_taken(client, model):
    one = complete(client, model, [1, 2, 3])
    two = complete(client, model, [[1, 2, 3], [4, 5]])
    assert one.usage.prompt_tokens == 3 and two.usage.prompt_tokens == 5
    assert two.choices[0].text == one.choices[0].text


@check
def n_gives_several_choices(client, model):
    answer = chat(client, model, n=2, temperature=1, seed=7)
    assert [choice.index for choice in answer.choices] == [0, 1]
    again = chat(client, model, n=2, temperature=1, seed=7)
    assert [c.message.content for c in answer.choices] == [c.message.content for c in again.choices]
    streamed = {0: "", 1: ""}
    finished = set()
    for chunk in chat(client, model, n=2, temperature=1, seed=7, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finished.add(choice.index)
    assert finished == {0, 1}
    assert [streamed[0], streamed[1]] == [c.message.content for c in answer.choices]


@check
def seeds_repeat(client, model):
    texts = {complete(client, model, temperature=1.2, seed=11, max_tokens=24).choices[0].text for _ in range(3)}
    assert len(texts) == 1, texts
    others = {complete(client, model, temperature=1.2, seed=seed, max_tokens=24).choices[0].text for seed in range(6)}
    assert len(others) > 1, "six seeds gave one text"


@check
def stop_strings_end_before_themselves(client, model):
    text = complete(client, model, max_tokens=32).choices[0].text
    stop = text[len(text) // 2:][:3]
    assert stop, "the model said nothing"
    stopped = complete(client, model, max_tokens=32, stop=[stop, "\0never"])
    assert stopped.choices[0].text == text[:text.index(stop)] and stopped.choices[0].finish_reason == "stop"
    streamed = "".join(c.choices[0].text for c in complete(client, model, max_tokens=32, stop=stop, stream=True))
    assert streamed == text[:text.index(stop)]
    kept = complete(client, model, max_tokens=32, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].text == text[:text.index(stop)] + stop


@check
def chat_logprobs_fit_the_text(client, model):
    answer = chat(client, model, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert content and all(entry.logprob <= 0 and len(entry.top_logprobs) == 3 for entry in content)
    joined = b"".join(bytes(entry.bytes) for entry in content)
    assert joined.decode(errors="replace") == answer.choices[0].message.content
    assert all(entry.token == entry.top_logprobs[0].token for entry in content), "greedy, but not the likeliest"


@check
def legacy_logprobs_fit_the_text(client, model):
    choice = complete(client, model, logprobs=2).choices[0]
    count = len(choice.logprobs.tokens)
    assert count == len(choice.logprobs.token_logprobs) == len(choice.logprobs.top_logprobs) == len(choice.logprobs.text_offset)
    assert "".join(choice.logprobs.tokens) == choice.text
    for token, offset in zip(choice.logprobs.tokens, choice.logprobs.text_offset):
        assert choice.text[offset:].startswith(token)


@check
def logit_bias_forbids_and_forces(client, model):
    first = client.completions.create(
        model=model, prompt="Hello", max_tokens=1, temperature=0, extra_body={"return_token_ids": True})
    token = first.choices[0].token_ids[0]
    other = client.completions.create(
        model=model, prompt="Hello", max_tokens=1, temperature=0, logit_bias={str(token): -100},
        extra_body={"return_token_ids": True})
    assert other.choices[0].token_ids[0] != token


@check
def extra_sampling_fields_are_taken(client, model):
    extra = {"top_k": 5, "min_p": 0.05, "repetition_penalty": 1.1, "min_tokens": 4, "ignore_eos": True, "unknown_field": {"a": 1}}
    answer = complete(client, model, max_tokens=6, temperature=0.7, seed=1, presence_penalty=0.5, frequency_penalty=0.5, extra_body=extra)
    assert answer.usage.completion_tokens == 6


@check
def own_request_id_comes_back(client, model):
    raw = client.completions.with_raw_response.create(
        model=model, prompt="a", max_tokens=1, extra_headers={"x-request-id": "acceptance-1"})
    assert raw.headers["x-request-id"] == "acceptance-1"


@check
def concurrent_requests_answer_as_alone(client, model):
    prompts = [f"Count to {number}:" for number in range(8)]
    alone = [complete(client, model, prompt).choices[0].text for prompt in prompts]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda prompt: complete(client, model, prompt).choices[0].text, prompts))
    assert together == alone


@check
def mistakes_raise_bad_request(client, model):
    cases = [
        ("temperature", lambda: chat(client, model, temperature=-1)),
        ("messages", lambda: chat(client, model, messages=[])),
        ("messages[0].role", lambda: chat(client, model, messages=[{"role": "robot", "content": "a"}])),
        ("max_tokens", lambda: chat(client, model, max_tokens=0)),
        ("n", lambda: chat(client, model, n=0)),
        ("response_format", lambda: chat(client, model, response_format={"type": "json_object"})),
        ("tool_choice", lambda: chat(client, model, tool_choice="required", tools=[{"type": "function", "function": {"name": "f"}}])),
        ("messages[0].content[0].type", lambda: chat(client, model, messages=[
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}])),
        ("prompt", lambda: complete(client, model, [])),
        ("echo", lambda: complete(client, model, echo=True, logprobs=1)),
    ]
    for param, call in cases:
        error = expect_error(openai.BadRequestError, call, 400)
        assert error.param == param, (error.param, param)
    expect_error(openai.BadRequestError, lambda: chat(client, model, temperature=-1, stream=True), 400)


@check
def too_long_a_prompt_tells_both_numbers(client, model):
    limit = client.models.retrieve(model).max_model_len
    error = expect_error(openai.BadRequestError, lambda: complete(client, model, [1] * (limit + 1)), 400)
    assert error.code == "context_length_exceeded"
    assert str(limit) in error.message and str(limit + 1) in error.message, error.message


@check
def unknown_model_and_route_raise_not_found(client, model):
    error = expect_error(openai.NotFoundError, lambda: chat(client, "no-such-model"), 404)
    assert error.code == "model_not_found"
    expect_error(openai.NotFoundError, lambda: client.models.retrieve("no-such-model"), 404)
    expect_error(openai.NotFoundError, lambda: client.embeddings.create(model=model, input="a"), 404)


@check
def wrong_key_raises_authentication_error(client, model):
    stranger = client.with_options(api_key="certainly-not-a-key")
    try:
        stranger.models.list()
    except openai.AuthenticationError as error:
        assert error.status_code == 401 and error.body["code"] == "invalid_api_key"
    else:
        assert client.api_key == NO_KEY, "a key that the server cannot know was let in"
        raise NotApplicable("the server asks for no key")


@check
def overload_raises_rate_limit_error(client, model):
    """More choices at once than any gateway takes: some are refused with 429, the others answered, and then all is well again."""
    eager = client.with_options(max_retries=0)

    def ask(_):
        try:
            complete(eager, model, "a", n=128, max_tokens=1)
            return "answered"
        except openai.RateLimitError as error:
            assert error.response.headers["retry-after"]
            return "refused"

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        fates = list(pool.map(ask, range(12)))
    assert "refused" in fates and "answered" in fates, fates
    assert complete(client, model, "a", max_tokens=1).choices[0].finish_reason == "length"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="where the server is, such as http://127.0.0.1:8080")
    parser.add_argument("--model", help="default: the first that the server lists")
    parser.add_argument("--api-key", default=NO_KEY)
    parser.add_argument("--only", help="run checks whose name contains this")
    arguments = parser.parse_args()
    client = openai.OpenAI(base_url=arguments.url.rstrip("/") + "/v1", api_key=arguments.api_key, max_retries=0, timeout=300)
    model = arguments.model or client.models.list().data[0].id
    failed = 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        if arguments.only and arguments.only not in function.__name__:
            continue
        start = time.monotonic()
        try:
            function(client, model)
            print(f"PASS  {name}  ({time.monotonic() - start:.1f} s)", flush=True)
        except NotApplicable as reason:
            print(f"SKIP  {name}: {reason}", flush=True)
        except Exception as error:  # Whatever goes wrong is this check's result, and the next one runs.
            failed += 1
            print(f"FAIL  {name}: {type(error).__name__}: {error}", flush=True)
    print(f"{'all checks passed' if not failed else f'{failed} checks failed'}, openai {openai.__version__}, model {model}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
