/*
 * SHA-256, random bytes, identifiers and their text forms (libcrypto underneath).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

#define DIGEST_SIZE      32
#define DIGEST_TEXT_SIZE (7 + 2 * DIGEST_SIZE + 1) /* "sha256:" + hex + NUL */

/* The name of a blob: SHA-256 of its content. */
struct digest {
    uint8_t bytes[DIGEST_SIZE];
};

/* "sha256:<64 lower-case hex digits>", the OCI form. Returns buffer. */
char *digest_format(const struct digest *digest, char buffer[DIGEST_TEXT_SIZE]);
/* Accepts the OCI form only. ERROR_INVALID says what was wrong. */
int digest_parse(const char *text, struct digest *ret_digest, struct error *error);
bool digest_equal(const struct digest *a, const struct digest *b);
void digest_of(const void *data, size_t length, struct digest *ret_digest);

/* Streaming: new → add* → finish (which frees). */
struct hasher;
struct hasher *hasher_new(void);
void hasher_add(struct hasher *hasher, const void *data, size_t length);
void hasher_finish(struct hasher *hasher, struct digest *ret_digest);
/* digest_of() with a hasher that is kept, for many short texts: making one costs more than hashing them.
 * Nothing may have been added to the hasher, and it is as new afterwards. */
void hasher_digest(struct hasher *hasher, const void *data, size_t length, struct digest *ret_digest);
/* For a hasher that is given up. Accepts NULL; returns NULL. */
struct hasher *hasher_free(struct hasher *hasher);
DEFINE_CLEANUP(struct hasher *, hasher_free)
#define cleanup_hasher CLEANUP(hasher_free_cleanup)

/* Cryptographically secure; aborts if the system has no randomness. */
void random_bytes(void *buffer, size_t length);

/* Writes 2·length digits and a NUL. */
void hex_encode(const void *data, size_t length, char *buffer);
/* False unless text is exactly 2·length hex digits. */
bool hex_decode(const char *text, void *buffer, size_t length);

/* For protocols that prescribe it (RFC 6455); not for anything that must be secure. */
#define SHA1_SIZE 20
void sha1_of(const void *data, size_t length, uint8_t ret_digest[SHA1_SIZE]);
/* Base64 with padding (RFC 4648 §4): writes BASE64_SIZE(length) bytes with the NUL. Returns buffer. */
#define BASE64_SIZE(length) (((length) + 2) / 3 * 4 + 1)
char *base64_encode(const void *data, size_t length, char *buffer);

/* URL-safe base64 without padding (RFC 4648 §5). To be freed by the caller. */
char *base64url_encode(const void *data, size_t length);
/* Standard base64 with padding (RFC 4648 §4), NUL-terminated; NULL if it is none. To be freed by the caller. */
char *base64_decode(const char *text, size_t *ret_length);

#define ID_SIZE 33 /* 32 hex digits and NUL */
/* A UUIDv7 (RFC 9562 §5.7) as 32 hex digits, so that identifiers sort by time of creation; within one
 * process they are strictly increasing. Thread-safe. */
void id_new(char buffer[ID_SIZE]);
bool id_is_valid(const char *text);

/* Compares without a timing that depends on where the inputs differ. */
bool memory_equal_secret(const void *a, const void *b, size_t length);
