/*
 * The log of requests: lines of JSON in segments, each a file of one endpoint, that the daemon takes into the vault.
 *
 *     DIRECTORY/requests/<id>.part     open: lines are appended
 *     DIRECTORY/requests/<id>.jsonl    closed: complete, never changed again, the daemon's to take and to unlink
 *
 * Names are identifiers that the gateway makes, the directory (mode 0700) is its own and opened before it drops its
 * privileges: nobody else has a say in where lines go. Which endpoint a segment is of, its lines say. Lines gather in
 * memory and are written when there are LIMIT_REQUEST_LOG_BUFFER bytes of them or after LIMIT_REQUEST_LOG_DELAY_MS;
 * a segment is closed at LIMIT_REQUEST_LOG_SEGMENT bytes, after LIMIT_REQUEST_LOG_SEGMENT_MS, or when somebody asks.
 * Where nothing can be written, or the daemon takes nothing (LIMIT_REQUEST_LOG_CLOSED), lines are dropped and counted;
 * a request never feels it. What a killed gateway left open is closed by the next one; it lost what was in memory.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "util/json.h"
#include "util/loop.h"

struct recorder;
struct segment;
struct gateway;

/* Of one endpoint. */
struct request_log {
    double sample; /* part of the requests that is logged; 0: none */
    size_t body;   /* bytes that are kept of a request and of its answer */
    uint64_t turn; /* spreads what is logged evenly */
    uint64_t written, dropped; /* lines */
    struct segment *segment;   /* NULL: none is open */
    bool is_over;              /* the endpoint is gone: nothing more is logged */
};

/* With the privileges that the gateway begins with; the directory is given to the user (0: stays ours). Where it cannot
 * be made, every line is dropped. */
struct recorder *recorder_open(struct gateway *gateway, const char *directory, uid_t user);
/* Closes all segments. */
struct recorder *recorder_close(struct recorder *recorder);

/* {"sample","body"} of control.h; NULL: nothing is logged. */
void request_log_configure(struct request_log *log, const json_t *wish);
/* The endpoint is gone. */
void recorder_end(struct recorder *recorder, struct request_log *log);
/* A line, without its end. */
void recorder_add(struct recorder *recorder, struct request_log *log, const char *line);
/* Closes the segment of a log, or all (NULL); returns how many were closed. */
size_t recorder_flush(struct recorder *recorder, struct request_log *log);
