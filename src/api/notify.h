/*
 * Tells the service manager how far the daemon is (the protocol of sd_notify(3), without its library).
 */
#pragma once

/* "READY=1", "STOPPING=1". Does nothing unless NOTIFY_SOCKET is set; never fails. */
void notify_supervisor(const char *state);
