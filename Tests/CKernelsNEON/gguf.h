// The least reader of GGUF files that a test can do with: numbers, words and tensors by name, from files that the Swift reader has
// accepted. Whatever is not as it should be ends the process with a message; this is no reader for files from elsewhere.

#ifndef GGUF_H
#define GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gguf_file gguf_file;

typedef struct gguf_tensor {
    uint32_t type;
    int32_t columns;       // elements of a row
    int32_t rows;          // 1 for a vector
    const uint8_t *bytes;  // in the file, which stays mapped until the process ends
} gguf_tensor;

gguf_file *gguf_open(const char *path);
/// False where there is no such tensor.
bool gguf_find(const gguf_file *file, const char *name, gguf_tensor *tensor);
/// The number behind a key, or `otherwise` where there is none.
double gguf_number(const gguf_file *file, const char *key, double otherwise);
/// Whether the word behind a key is this one.
bool gguf_says(const gguf_file *file, const char *key, const char *word);

#endif
