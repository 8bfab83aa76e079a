/* SPDX-License-Identifier: Apache-2.0 */
/** Windows: pages that cannot be touched, and what becomes of a call that touches them. */
#include <windows.h>

#include "verify/internal.h"

size_t attend_page_size(void) {
  SYSTEM_INFO info;
  GetSystemInfo(&info);
  return info.dwPageSize;
}

void *attend_pages_reserve(size_t size) { return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_NOACCESS); }

bool attend_pages_allow(void *pages, size_t size, bool writing) {
  DWORD before;
  return VirtualProtect(pages, size, writing ? PAGE_READWRITE : PAGE_READONLY, &before);
}

void attend_pages_release(void *pages, size_t size) {
  (void)size;
  VirtualFree(pages, 0, MEM_RELEASE);
}

/* gcc's own jump, since the C library's unwinds the stack through a function that was stopped anywhere. */
static void *astray[5];
static attend_verify_signal caught;

static void land(void) { __builtin_longjmp(astray, 1); }

/** Windows has exceptions for signals: `number` is the code of one. */
static LONG CALLBACK catch_exception(EXCEPTION_POINTERS *about) {
  const EXCEPTION_RECORD *record = about->ExceptionRecord;
  if (record->ExceptionCode < EXCEPTION_ACCESS_VIOLATION) return EXCEPTION_CONTINUE_SEARCH; /* no error */
  caught.number = (int)record->ExceptionCode;
  if (record->ExceptionCode == EXCEPTION_ACCESS_VIOLATION) caught.address = (void *)record->ExceptionInformation[1];
  /* Goes on in land() as if it had been called: below what is in use of the stack, and aligned as the ABI says. */
  about->ContextRecord->Rsp = ((about->ContextRecord->Rsp - 256) & ~(DWORD64)15) - 8;
  about->ContextRecord->Rip = (DWORD64)(uintptr_t)land;
  return EXCEPTION_CONTINUE_EXECUTION;
}

attend_verify_signal attend_verify_call(void (*call)(void *context), void *context) {
  caught = (attend_verify_signal){0};
  void *handler = AddVectoredExceptionHandler(1, catch_exception);
  if (__builtin_setjmp(astray) == 0) call(context);
  RemoveVectoredExceptionHandler(handler);
  return caught;
}

const char *attend_verify_signal_name(attend_verify_signal s) {
  switch ((DWORD)s.number) {
  case EXCEPTION_ACCESS_VIOLATION: return "access violation";
  case EXCEPTION_ILLEGAL_INSTRUCTION: return "illegal instruction";
  default: return "exception";
  }
}

bool attend_verify_touched(attend_verify_signal s, const attend_guarded *buffer, ptrdiff_t *at) {
  return (DWORD)s.number == EXCEPTION_ACCESS_VIOLATION && attend_guarded_near(buffer, s.address, at);
}
