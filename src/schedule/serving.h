/*
 * The serving plane's control side: brings what is served to what the database says (core/endpoint.h).
 *
 *     database ──load──▶ desired ──compare──▶ replicas to launch, to drain, to stop     engine
 *        ▲                                └──▶ routes ──configure──▶ gateway            control.sock
 *        └───────────── states ◀── events of gateway and engine ◀────┘
 *
 * It lives on the orchestrator's loop. One function, reconcile, does all of it and is idempotent: it runs
 * after every change and every event, reads the desired state afresh, and does what is missing. Nothing
 * else holds state that matters, so that a daemon that died in any step goes on where it was.
 *
 * Gateway and replicas outlive the daemon (they go on answering); the next daemon finds the gateway by
 * DATA/gateway.json (pid and start time), the replicas by their rows, and attaches to both.
 *
 * Deploy: the version's replicas are launched beside the old ones; when one is ready and warm the routes
 * are swapped in the gateway in one message; the old version stays loaded as standby until the next deploy,
 * so that a rollback is that one message. What is on neither route is drained and stopped.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "schedule/orchestrator.h"
#include "store/store.h"
#include "util/json.h"

struct serving;

/* The user that the gateway becomes: "slipway-gateway" where there is one, else a number that nobody has.
 * 0 where we are not root: it stays what we are. */
uid_t serving_gateway_uid(void);

struct serving_options {
    const char *serve;             /* "127.0.0.1:8480"; port 0 takes a free one; NULL: no gateway, no endpoints */
    const char *certificate, *key; /* PEM files of the serving port; NULL: no TLS */
    const char *program;           /* the slipway executable; NULL: this one */
    uid_t gateway_uid;             /* the gateway's; 0: ours */
};

/* Between orchestrator_new and orchestrator_start: registers with the engine's events, finds or starts the
 * gateway, reattaches replicas. */
int serving_new(struct store *store, struct orchestrator *orchestrator, const struct serving_options *options,
                struct serving **ret_serving, struct error *error);
/* After orchestrator_stop and before orchestrator_free. Gateway and replicas go on. */
struct serving *serving_free(struct serving *serving);
DEFINE_CLEANUP(struct serving *, serving_free)

/* -- any thread -- */

/* "http://127.0.0.1:8480"; NULL without a gateway. Valid as long as the object. */
const char *serving_url(const struct serving *serving);
/* Why the gateway is not there, such as its port being taken; NULL if it is. To be freed. */
char *serving_problem(struct serving *serving);
/* Something that it reads has changed and is committed: an endpoint, a route, an alias, a run's end. */
void serving_changed(struct serving *serving);
/* The same, and waits until the gateway has it in force; 2 s at most, if it does not answer. */
void serving_apply(struct serving *serving);
/* Waits until the deployment is live, failed or superseded, at most timeout_ms. 1: it is over; 0: not yet.
 * *ret_switch_us (microseconds from sending the routes to their being in force) is -1 unless it became live. */
int serving_wait(struct serving *serving, int64_t deployment, int timeout_ms, int64_t *ret_switch_us);
/* Tokens that the gateway remembers are forgotten (all, or one by the hex SHA-256 of its text). */
void serving_revoke(struct serving *serving, const char *sha256);
/* {"gateway":{"state","pid","url","restarts"},"endpoints":[…]} as the gateway says; NULL on failure. */
json_t *serving_status(struct serving *serving, struct error *error);
/* The gateway's status with what core/traffic.h takes. ERROR_UNAVAILABLE without an answer. */
json_t *serving_counters(struct serving *serving, struct error *error);
/* Takes the endpoint's logged requests, up to the last that is answered, into the vault (core/request-log.h). Waits for
 * the gateway, and blocks on disk. */
int serving_requests(struct serving *serving, const char *endpoint, struct error *error);
/* {"shadows":[…]} of gateway/control.h: answers that differed. */
json_t *serving_compare(struct serving *serving, const char *endpoint, struct error *error);
