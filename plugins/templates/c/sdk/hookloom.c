/* Errors as the host takes them. assert() and abort() of the C library end here, too: a definition in a program comes before the
   library's. */
#include "hookloom.h"
#include "../generated/plugin.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void report(const char *file, int line, const char *message) {
  hookloom_errors_report_error_t error;
  memset(&error, 0, sizeof error); /* No functions: the host knows them. */
  error.message.ptr = (uint8_t *)message;
  error.message.len = strlen(message);
  if (file != NULL) {
    error.position.is_some = true;
    error.position.val.file.ptr = (uint8_t *)file;
    error.position.val.file.len = strlen(file);
    error.position.val.line = (uint32_t)line;
  }
  hookloom_errors_report_fail(&error);
  __builtin_trap(); /* Not reached: the host has ended the call. */
}

_Noreturn void hookloom_fail(const char *file, int line, const char *format, ...) {
  char message[1024];
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  report(file, line, message);
}

_Noreturn void __assert_fail(const char *expression, const char *file, int line, const char *function) {
  (void)function;
  hookloom_fail(file, line, "assertion failed: %s", expression);
}

_Noreturn void abort(void) { report(NULL, 0, "abort() was called"); }
