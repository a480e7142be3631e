/* single_step.c: runs a function of a library one instruction at a time and counts how often each of its instructions
 * is executed. The trap flag of x86-64 raises SIGTRAP behind every instruction; the handler takes down where it was.
 * Unlike valgrind this knows every instruction that the CPU knows, AVX-512 included. Linux only. */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

static uintptr_t first;
static size_t length;
static uint32_t *counts; /* counts[i] belongs to the address first + i */

static void on_trap(int signal, siginfo_t *info, void *context)
{
    const uintptr_t at = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] - first;
    (void)signal, (void)info;
    if (at < length)
        counts[at]++;
}

/* Any function of at most 20 integers or pointers and 8 doubles can be called as one of exactly so many: the ABI puts
 * the first six integers and all doubles into registers of their own and the other integers on the stack, in order. */
typedef void function(long, long, long, long, long, long, long, long, long, long, long, long, long, long, long, long,
                      long, long, long, long, double, double, double, double, double, double, double, double);

void single_step(function *f, const long i[20], const double d[8], uintptr_t code, size_t size, uint32_t *result)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO}, before;
    first = code;
    length = size;
    counts = result;
    sigaction(SIGTRAP, &action, &before);
    __asm__ volatile("pushfq\n\torq $0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    f(i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], i[9], i[10], i[11], i[12], i[13], i[14], i[15], i[16], i[17],
      i[18], i[19], d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
    __asm__ volatile("pushfq\n\tandq $~0x100, (%%rsp)\n\tpopfq" ::: "memory", "cc");
    sigaction(SIGTRAP, &before, NULL);
}
