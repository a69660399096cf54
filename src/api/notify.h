/*
 * Tells the service manager how far the daemon is (the protocol of sd_notify(3), without its library).
 */
#pragma once

/* Where to tell it: NOTIFY_SOCKET, or NULL; to be freed. Takes the variable out of the environment: container
 * runtimes would take it for their own and wait for the container to say that it is ready. Before any thread. */
char *notify_open(void);
/* "READY=1", "STOPPING=1". Does nothing if where is NULL; never fails. */
void notify_supervisor(const char *where, const char *state);
