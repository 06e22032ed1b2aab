/* Makes the library call behind std::os::unix::process::parent_id a fork, for
 * a test of Rust that contains no unsafe code: it returns what fork returns,
 * 0 in the child. A child that hangs is ended by SIGALRM. */
#include <sys/types.h>
#include <unistd.h>

pid_t getppid(void) {
    pid_t child = fork();
    if (child == 0)
        alarm(60);
    return child;
}
