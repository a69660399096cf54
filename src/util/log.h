/*
 * The process's own log: one line an event on standard error, with fields.
 *
 *     2026-01-31T12:34:56.789Z info  run started run=0190… node=0 pid=4711
 *
 * Only programs log (handlers, state machines, event loops); libraries return errors. Values that
 * hold spaces or control characters are quoted and escaped. Thread-safe; a line is one write().
 */
#pragma once

enum log_level {
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARNING,
    LOG_ERROR,
};

/* The least level that is written; LOG_INFO at start. */
void log_set_level(enum log_level level);

/* Fields are (const char *key, const char *value) pairs, ended by NULL; a NULL value prints as "-". */
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));

#define log_debug(...)   log_event(LOG_DEBUG, __VA_ARGS__, NULL)
#define log_info(...)    log_event(LOG_INFO, __VA_ARGS__, NULL)
#define log_warning(...) log_event(LOG_WARNING, __VA_ARGS__, NULL)
#define log_error(...)   log_event(LOG_ERROR, __VA_ARGS__, NULL)
