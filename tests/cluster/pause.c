/* Holds a pod's namespaces open: the node's sandbox image is this and nothing else. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void stop(int signal) { (void)signal; _exit(0); }

int main(void) {
    /* PID 1 has no default signal actions: without handlers every pod would wait for SIGKILL. */
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
    /* Pods that share a PID namespace hand their orphans to us. */
    signal(SIGCHLD, SIG_IGN);
    for (;;) pause();
}
