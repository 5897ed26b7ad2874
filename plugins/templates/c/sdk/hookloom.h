/* Errors of a plugin in C: message, file and line reach the people who own the subscription, with the functions that were running.

   FAIL("no %s", name) ends the call; assert() and abort() do the same. The delivery waits for another version of the plugin. */
#ifndef HOOKLOOM_H
#define HOOKLOOM_H

#include <assert.h>

#define FAIL(...) hookloom_fail(__FILE__, __LINE__, __VA_ARGS__)

_Noreturn void hookloom_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
