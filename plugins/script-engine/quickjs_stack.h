/*
 * Included before each file of QuickJS, so that it checks the depth of its stack on WASI, too.
 *
 * QuickJS has the check, but not on WASI, where a recursion without end would end the instance instead of throwing an error. After
 * their headers, its files look at __wasi__ for three things: this check; no threads and no atomics, which EMSCRIPTEN also says
 * (rquickjs defines it); and the size of an allocation, which __GLIBC__ also says.
 */
#include <assert.h>
#include <ctype.h>
#include <fenv.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#undef __wasi__
#define __GLIBC__ 1

/*
 * QuickJS measures depth by the address of its frame. On WebAssembly that is only a part of the stack: what clang keeps in locals is
 * on the stack of the runtime, which cannot be measured. So each function that asks for its address gets a larger frame, and a
 * recursion is counted that uses nothing but locals.
 */
#define STACK_PAD_BYTES 1024
#define __builtin_frame_address(level)        \
    ({                                        \
        volatile char pad[STACK_PAD_BYTES];   \
        pad[0] = 0;                           \
        (void *)pad;                          \
    })
