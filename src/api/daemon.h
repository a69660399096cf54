/*
 * The daemon: what `slipway serve` is made of, and its life.
 *
 *     daemon_new     opens the store (lock, migrations), loads the orchestrator and reconciles it with what
 *                    really runs, starts serving, then listens: whoever gets an answer sees a ready daemon
 *     daemon_run     until SIGTERM or SIGINT
 *     daemon_free    stops listening, the orchestrator's thread, the gateway; runs go on under their monitors
 *
 * Handlers get it as request->context:
 *
 *     struct daemon *daemon = request->context;
 *     cleanup_tx struct db_tx tx = DB_TX_INIT;
 *     if (db_begin_read(daemon->store->db, &tx, error) < 0) ...
 *
 * Nothing in it changes between daemon_new and daemon_free.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "http/server.h"
#include "store/store.h"
#include "util/error.h"
#include "util/loop.h"
#include "util/strvec.h"

struct authenticator;
struct orchestrator;
struct serving;

struct daemon_options {
    const char *data_directory;
    const char *hot_directory;     /* NULL: the vault's default */
    uint64_t hot_budget;           /* 0: the vault's default */
    const struct strvec *listen;   /* addresses of the control port; empty: the Unix socket only */
    const char *serve;             /* address of the serving port; NULL: no gateway */
    const char *certificate, *key; /* PEM files, for both ports; NULL: no TLS */
    const char *engine;            /* engine_open(); NULL: "auto" */
    int64_t long_run_ms;           /* 0: default */
    const char *python;            /* orchestrator_options; NULL: its default */
    bool insecure;                 /* allows a port beyond loopback without TLS */
};

struct daemon {
    struct store *store;
    struct orchestrator *orchestrator;
    struct serving *serving;
    struct http_server *control;
    struct authenticator *auth;
    struct loop *loop;    /* of the main thread: signals */
    struct strvec urls;   /* of the control port; the Unix socket first */
    uid_t gateway_uid;    /* the gateway's own user, who may ask what tokens are worth; 0: it has none */
    char *serve_url;      /* "http://127.0.0.1:8480"; NULL: no gateway */
    char *notify;         /* of the service manager (api/notify.h) */
    int64_t started_ms;   /* wall clock */
};

int daemon_new(const struct daemon_options *options, struct daemon **ret_daemon, struct error *error);
void daemon_run(struct daemon *daemon);
struct daemon *daemon_free(struct daemon *daemon);
DEFINE_CLEANUP(struct daemon *, daemon_free)
#define cleanup_daemon CLEANUP(daemon_free_cleanup)
