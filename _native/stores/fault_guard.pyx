"""Read mapped files that may be cut: a SIGBUS ends the read, not the process.

Strategy: run_guarded notes in the thread what it reads, and where to go on after a
fault. The handler jumps there, if the fault lies in what the thread reads. Every other
fault goes to the handler that was there before ours, as if ours were not there.

Handlers of other code can be installed above ours at any time, faulthandler's for
example, which would report a crash before ours could prevent it. So ours is installed
again, above theirs, when the coarse clock has moved on since the last look. Each
installation uses another function, a layer, which knows the handler below it. With one
function for all, faulthandler and ours would call each other without end.

If SIGBUS is blocked in a thread, the system kills the process without a handler.

Source: POSIX.1-2017, sigaction, sigsetjmp, pthread_sigmask; Linux, sigaction(2).
"""

from common.guarded cimport guard_function, guarded_work

cdef extern from *:
    """
    #include <pthread.h>
    #include <setjmp.h>
    #include <signal.h>
    #include <stdatomic.h>
    #include <stddef.h>
    #include <time.h>
    #include <ucontext.h>
    #include <unistd.h>

    #ifdef CLOCK_MONOTONIC_COARSE
    #define LOOK_CLOCK CLOCK_MONOTONIC_COARSE  /* 3 ns, where the exact one takes 60 */
    #else
    #define LOOK_CLOCK CLOCK_MONOTONIC
    #endif

    /* A handler must not allocate, and glibc may do so at a thread's first use of a
       variable, unless the variable is in this model. musl never does. */
    #ifdef __GLIBC__
    #define IN_EACH_THREAD __thread __attribute__((tls_model("initial-exec")))
    #else
    #define IN_EACH_THREAD __thread
    #endif

    #define LAYERS 8

    struct guarded {
        sigjmp_buf back;
        const char* from;
        const char* to;
        struct guarded* outer;
    };

    static IN_EACH_THREAD struct guarded* volatile innermost;
    static struct sigaction below[LAYERS];
    static int layers_used;
    static atomic_flag looking = ATOMIC_FLAG_INIT;
    static atomic_long looked_at = -1;

    static void pass_on(
        struct sigaction* to, int sig, siginfo_t* info, void* context
    ) {
        struct sigaction whom = *to;
        sigset_t mask;
        if (whom.sa_flags & SA_RESETHAND) {
            to->sa_handler = SIG_DFL;
            to->sa_flags = 0;
        }
        /* as the system would have called it */
        pthread_sigmask(SIG_BLOCK, &whom.sa_mask, NULL);
        if (whom.sa_flags & SA_NODEFER) {
            sigemptyset(&mask);
            sigaddset(&mask, sig);
            pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
        }
        if (whom.sa_flags & SA_SIGINFO) {
            whom.sa_sigaction(sig, info, context);
        } else if (whom.sa_handler == SIG_IGN && info->si_code <= 0) {
            return;  /* another process sent it */
        } else if (whom.sa_handler == SIG_DFL || whom.sa_handler == SIG_IGN) {
            whom.sa_handler = SIG_DFL;
            sigaction(sig, &whom, NULL);
            if (info->si_code <= 0)
                raise(sig);
            /* else the instruction runs again, and the system ends the process */
        } else {
            whom.sa_handler(sig);
        }
    }

    static void on_fault(int layer, int sig, siginfo_t* info, void* context) {
        struct guarded* here = innermost;
        const char* at = (const char*) info->si_addr;
        /* a handler above ours, such as faulthandler's, has raised the signal again */
        int raised_here = 0;
    #ifdef SI_TKILL
        raised_here = info->si_code == SI_TKILL && info->si_pid == getpid();
    #endif
        if (here != NULL && (
            raised_here || (info->si_code > 0 && at >= here->from && at < here->to)
        )) {
            pthread_sigmask(
                SIG_SETMASK, &((ucontext_t*) context)->uc_sigmask, NULL
            );
            siglongjmp(here->back, 1);
        }
        pass_on(&below[layer], sig, info, context);
    }

    #define LAYER(n) \\
        static void on_fault_##n(int sig, siginfo_t* info, void* context) { \\
            on_fault(n, sig, info, context); \\
        }
    LAYER(0) LAYER(1) LAYER(2) LAYER(3) LAYER(4) LAYER(5) LAYER(6) LAYER(7)

    static void (*const layers[LAYERS])(int, siginfo_t*, void*) = {
        on_fault_0, on_fault_1, on_fault_2, on_fault_3,
        on_fault_4, on_fault_5, on_fault_6, on_fault_7,
    };

    /* Put a layer of ours above all other handlers, unless one is there. */
    static void install(void) {
        struct sigaction now, ours;
        int i;
        if (sigaction(SIGBUS, NULL, &now) != 0)
            return;
        for (i = 0; i < layers_used; i++)
            if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == layers[i]) {
                layers_used = i + 1;  /* those above were taken away again */
                return;
            }
        for (i = 0; i < layers_used; i++)
            if (now.sa_handler == below[i].sa_handler)
                break;
        if (i == LAYERS)
            return;
        below[i] = now;
        ours.sa_sigaction = layers[i];
        ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
        sigemptyset(&ours.sa_mask);
        if (sigaction(SIGBUS, &ours, NULL) == 0)
            layers_used = i + 1;
    }

    static void install_now_and_then(void) {
        struct timespec now;
        long tick;
        clock_gettime(LOOK_CLOCK, &now);
        tick = (long) now.tv_sec * 1000 + now.tv_nsec / 1000000;
        if (atomic_load_explicit(&looked_at, memory_order_relaxed) == tick)
            return;
        if (atomic_flag_test_and_set(&looking))
            return;
        install();
        atomic_store(&looked_at, tick);
        atomic_flag_clear(&looking);
    }

    /* Nothing of `here` changes after sigsetjmp, so all of it is known after a jump. */
    __attribute__((noinline)) static int run_guarded(
        void (*work)(void*), void* argument, const void* from, size_t bytes
    ) {
        struct guarded here;
        install_now_and_then();
        here.from = (const char*) from;
        here.to = here.from + bytes;
        here.outer = innermost;
        if (sigsetjmp(here.back, 0)) {
            innermost = here.outer;
            return 1;
        }
        innermost = &here;
        atomic_signal_fence(memory_order_seq_cst);
        work(argument);
        atomic_signal_fence(memory_order_seq_cst);
        innermost = here.outer;
        return 0;
    }
    """
    bint run_guarded(guarded_work, void*, const void*, size_t) noexcept nogil

cdef extern from "Python.h":
    object PyCapsule_New(void*, const char*, void*)

# Do work, and return whether a fault has ended it. It may read `bytes` bytes from
# `from` on; it must own nothing that a fault would leave behind: no lock, no memory.
GUARD = PyCapsule_New(
    <void*> <guard_function> run_guarded, "blobpack.run_guarded", NULL
)
