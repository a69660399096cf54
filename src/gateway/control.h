/*
 * The control socket of the gateway: DIRECTORY/control.sock, a stream of JSON objects, one a line.
 *
 * One client at a time, the daemon; its uid must be root or the gateway's own (SO_PEERCRED). A newer
 * connection replaces the older one. When the client goes away the gateway keeps serving what it has. A line
 * is at most LIMIT_CONTROL_LINE bytes; requests are answered in order.
 *
 *     → {"id":1,"op":"configure","endpoints":[…]}      ← {"id":1,"ok":true,"switch_us":85}
 *     → {"id":2,"op":"status"}                         ← {"id":2,"ok":true,"endpoints":[…],"auth":{…}}
 *     → {"id":3,"op":"revoke","sha256":"<64 hex>"}     ← {"id":3,"ok":true,"revoked":1}
 *     → {"id":4,"op":"nonsense"}                       ← {"id":4,"error":{"code","message"}}
 *                                                      ← {"event":"replica","id":"…","state":"ready",…}
 *
 * configure carries the whole desired state and is idempotent. It is taken whole or, when anything in it is
 * wrong, not at all; requests that are running or waiting keep the version that they were routed to. A route
 * may be given before any of its replicas is connected; its requests then go to another route with weight that has
 * one, else they wait in its queue until one is ready, or their deadline.
 *
 *     {"name":"digits",             name in the URL, unique
 *      "project":"default",         tokens of another project are refused
 *      "model":"vision/digits",     also an address of the endpoint in /v2/models/{m}
 *      "timeout_ms":30000,          deadline of a request that names none; also the most it may name
 *      "queue":256,                 requests that may wait, per version; beyond: 503 with Retry-After
 *      "cache":0,                   bytes of answers that are remembered, of deterministic routes; optional
 *      "public":false,              true: no token is looked at
 *      "body_limit":67108864,       bytes; optional
 *      "sticky":"X-User",           optional: requests with equal values of this header get the same version, also
 *                                   while its share grows
 *      "rate":{"per_second":50,"burst":100},   optional: requests of one token; beyond: 429 with Retry-After
 *      "log":{"sample":0.01,"body":16384},     optional: the part of the requests that is logged, and the bytes that
 *                                   are kept of each and of its answer (recorder.h)
 *      "routes":[
 *        {"version":"7","code_weights":"3.5",
 *         "weight":100,             share of the traffic, relative to the sum; 0: only by explicit version
 *         "shadow":false,           optional; true: no traffic by weight, whatever the weight says, but copies of
 *                                   requests (shadow.h); one of an endpoint's
 *         "sample":1,               of a shadow: the part of the requests that is copied; of another route (0)
 *                                   the same, while it has nothing else to do
 *         "tolerance":0,            of a shadow: the difference of numbers that is none
 *         "against":"7",            of a shadow, optional: only requests that this version answered
 *         "platform":"python",      optional; as the metadata call shows it
 *         "inputs":[{"name","datatype","shape"}],"outputs":[…],     optional: the signature
 *         "concurrency":1,          optional: requests, or batches, that a replica may hold at once
 *         "batch":{"size":32,       optional: text requests that wait go out together, at most so many;
 *           "delay_us":2000},       so long they wait for more while a replica is idle (0). Has an effect
 *                                   only where the replicas say that they take batches
 *         "deterministic":false,    optional; true: equal requests have equal answers
 *         "scale":{"queue_time_ms":50,"to_zero":false},   optional: its load is told (gateway/load.h); with to_zero it
 *                                   may have no replica, and counts as ready then
 *         "replicas":[{"id":"<32 hex>","key":"<secret>"}]}]}
 *
 * A replica of the wished state that is not connected is awaited. One that is connected and no longer wished
 * gets no new request; when those in flight are answered the event "drained" comes, and then it is the
 * daemon's to stop. A replica that is wished again before is taken back.
 *
 * Events, `state` is one of
 *     warming   it said hello; its init() or warm-up runs
 *     ready     it takes requests
 *     failed    its init() failed, or it broke the protocol, or it overran a deadline; `message` says which.
 *               After the latter two the gateway has killed it, or could not for lack of permission: then
 *               "killed" is false and the daemon should.
 *     gone      its process ended or closed the connection. Whoever started it starts it again.
 *     drained   see above
 * After a client connected it gets one event for every replica that is connected.
 *
 * A route with "scale" has events of its own, format/load.h explains the fields:
 *     ← {"event":"load","endpoint":"digits","version":"7","level":"over","queue_time_us":81000,"queued":7,"running":1,
 *        "requests":40,"ready":1,"busy":1.0,"idle_ms":0}
 *     ← {"event":"cold_start","endpoint":"digits","version":"7","ms":140,"waited":3}   its first replica is ready
 *
 * Of the log of requests:
 *     ← {"event":"requests"}       a segment is closed: there is a requests/<id>.jsonl to be taken
 *
 * status: "instance" and "started_ms" (wall clock) of the gateway, whose counters begin at 0; per endpoint {"name",
 * "cache":null|{"max","size","answers"},"log":null|{"sample","written":n,"dropped":n},"routes":[{"version","weight",
 * "ready":true,"queued":n,"running":n,"requests":n,"errors":n,"outcomes":{…},
 * "latency":{"count","p50_ms","p99_ms"},"queue_time":{…},"cache":{"hits":n,"misses":n},
 * "batches":{"count":n,"requests":n},"shadow":null|{…},"replicas":[{"id","state","pid","running":n,"requests":n,
 * "errors":n,"bad_answers":n}]}]}; "auth": the flows {"requests","no_token","bad_token","forbidden","cache_hits",
 * "introspections","introspection_failures","reached_model"}. With "detail":true latency and queue_time have the
 * "slots" of util/durations.h, too.
 *
 * compare {"endpoint":"digits"} answers {"shadows":[{"version","shadow":{…},"samples":[…]}]}: answers of shadows that
 * differed from the live one's, with the request (shadow.h).
 *
 * flush-requests {"endpoint":"digits"} closes the endpoint's segment of logged requests, or without "endpoint" all of
 * them: {"closed":n}.
 *
 * listener answers {"attached":true} and attaches (SCM_RIGHTS) a copy of the first listening socket.
 *
 * revoke forgets one token (by the SHA-256 of its text) or, without "sha256", all: the next request with it
 * asks the introspection server again.
 */
#pragma once

#include <stdbool.h>
#include "util/error.h"
#include "util/json.h"

struct gateway;
struct control;

/* Listens on `path` (mode 0600; what was there is replaced). */
int control_open(struct gateway *gateway, const char *path, struct control **ret_control, struct error *error);
struct control *control_close(struct control *control);

bool control_is_connected(const struct control *control);
/* Tells the client, if there is one. Steals the event. */
void control_send(struct control *control, json_t *event);
/* A replica's. `message` may be NULL; killed: see above. */
void control_replica_event(struct control *control, const char *id, const char *state, const char *message,
                           bool killed);
