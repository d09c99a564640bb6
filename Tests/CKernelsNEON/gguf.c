// GGUF version 3, little-endian: magic, version, tensor count, key count, keys with values, tensors' places, padding, data.

#include "gguf.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// Types of values, in the format's numbers. Those below FLOAT32 are integers of 1, 1, 2, 2, 4, 4 bytes.
enum { FLOAT32 = 6, BOOLEAN = 7, TEXT = 8, ARRAY = 9, UINT64 = 10, INT64 = 11, FLOAT64 = 12 };
enum { ALIGNMENT_DEFAULT = 32 };

struct gguf_file {
    const uint8_t *start, *end, *keys, *tensors, *data;
    uint64_t key_count, tensor_count;
};

static _Noreturn void stop(const char *what) {
    fprintf(stderr, "error: cannot read the model file: %s\n", what);
    exit(1);
}

/// `size` bytes at *at, which moves behind them.
static const uint8_t *take(const gguf_file *f, const uint8_t **at, uint64_t size) {
    if (size > (uint64_t)(f->end - *at)) stop("it ends too early");
    const uint8_t *taken = *at;
    *at += size;
    return taken;
}

static uint32_t take_u32(const gguf_file *f, const uint8_t **at) {
    uint32_t value;
    memcpy(&value, take(f, at, sizeof value), sizeof value);
    return value;
}

static uint64_t take_u64(const gguf_file *f, const uint8_t **at) {
    uint64_t value;
    memcpy(&value, take(f, at, sizeof value), sizeof value);
    return value;
}

/// Whether the text at *at is `wanted`; moves behind it.
static bool take_text(const gguf_file *f, const uint8_t **at, const char *wanted) {
    uint64_t size = take_u64(f, at);
    const uint8_t *text = take(f, at, size);
    return size == strlen(wanted) && memcmp(text, wanted, size) == 0;
}

static uint64_t value_bytes(uint32_t type) {
    static const uint8_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type >= sizeof sizes || sizes[type] == 0) stop("a value has an unknown type");
    return sizes[type];
}

static void skip_value(const gguf_file *f, const uint8_t **at, uint32_t type) {
    if (type == TEXT) {
        take(f, at, take_u64(f, at));
    } else if (type == ARRAY) {
        uint32_t element = take_u32(f, at);
        uint64_t count = take_u64(f, at);
        if (element == TEXT || element == ARRAY)
            for (uint64_t i = 0; i < count; i++) skip_value(f, at, element);
        else take(f, at, count * value_bytes(element));
    } else {
        take(f, at, value_bytes(type));
    }
}

/// Where the value of a key starts, null where there is none.
static const uint8_t *value_of(const gguf_file *f, const char *key, uint32_t *type) {
    const uint8_t *at = f->keys;
    for (uint64_t i = 0; i < f->key_count; i++) {
        bool found = take_text(f, &at, key);
        *type = take_u32(f, &at);
        if (found) return at;
        skip_value(f, &at, *type);
    }
    return NULL;
}

double gguf_number(const gguf_file *f, const char *key, double otherwise) {
    uint32_t type;
    const uint8_t *value = value_of(f, key, &type);
    if (value == NULL) return otherwise;
    if (type == FLOAT32) {
        float number;
        memcpy(&number, value, sizeof number);
        return (double)number;
    }
    if (type == FLOAT64) {
        double number;
        memcpy(&number, value, sizeof number);
        return number;
    }
    if (type == TEXT || type == ARRAY) stop(key);
    uint64_t number = 0;  // counts are never negative
    memcpy(&number, value, value_bytes(type));
    return (double)number;
}

bool gguf_says(const gguf_file *f, const char *key, const char *word) {
    uint32_t type;
    const uint8_t *value = value_of(f, key, &type);
    return value != NULL && type == TEXT && take_text(f, &value, word);
}

/// One tensor's place; true where it has this name.
static bool take_tensor(const gguf_file *f, const uint8_t **at, const char *name, gguf_tensor *tensor) {
    bool found = take_text(f, at, name);
    uint32_t dimensions = take_u32(f, at);
    if (dimensions < 1 || dimensions > 2) stop("a tensor has neither one dimension nor two");
    tensor->columns = (int32_t)take_u64(f, at);
    tensor->rows = dimensions == 2 ? (int32_t)take_u64(f, at) : 1;
    tensor->type = take_u32(f, at);
    tensor->bytes = f->data + take_u64(f, at);
    return found;
}

bool gguf_find(const gguf_file *f, const char *name, gguf_tensor *tensor) {
    const uint8_t *at = f->tensors;
    for (uint64_t i = 0; i < f->tensor_count; i++)
        if (take_tensor(f, &at, name, tensor)) return true;
    return false;
}

gguf_file *gguf_open(const char *path) {
    gguf_file *f = calloc(1, sizeof *f);
    int descriptor = open(path, O_RDONLY);
    struct stat status;
    if (f == NULL || descriptor < 0 || fstat(descriptor, &status) != 0) stop(path);
    f->start = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (f->start == MAP_FAILED) stop(path);
    close(descriptor);
    f->end = f->start + status.st_size;

    const uint8_t *at = f->start;
    if (memcmp(take(f, &at, 4), "GGUF", 4) != 0 || take_u32(f, &at) != 3) stop("it is not GGUF version 3");
    f->tensor_count = take_u64(f, &at);
    f->key_count = take_u64(f, &at);
    f->keys = at;
    for (uint64_t i = 0; i < f->key_count; i++) {
        take_text(f, &at, "");
        skip_value(f, &at, take_u32(f, &at));
    }
    f->tensors = at;
    gguf_tensor ignored;
    for (uint64_t i = 0; i < f->tensor_count; i++) take_tensor(f, &at, "", &ignored);
    const uint64_t alignment = (uint64_t)gguf_number(f, "general.alignment", ALIGNMENT_DEFAULT);
    f->data = f->start + ((uint64_t)(at - f->start) + alignment - 1) / alignment * alignment;
    return f;
}
