/* SPDX-License-Identifier: Apache-2.0 */
/** What the sanitizers need to know about the tests. In a build without them nothing is left but an empty function. */
#include "tests/support.h"

#include <criterion/criterion.h>

#ifndef __has_feature
#define __has_feature(feature) 0
#endif

/* Found by the runtime libraries, and not hidden like everything else. */
#define FOUND __attribute__((visibility("default")))

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>

/* An allocation too large for the machine is an error that the library reports, not one of the test. */
FOUND const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

void attend_test_expect_no_leak(void) { cr_expect_eq(__lsan_do_recoverable_leak_check(), 0, "memory was lost"); }

void attend_test_allow_leaks(bool allowed) { allowed ? __lsan_disable() : __lsan_enable(); }

void attend_test_expect_exact(const void *memory, size_t size) {
  cr_expect_not(__asan_region_is_poisoned((void *)(uintptr_t)memory, size), "%zu bytes are less", size);
  cr_expect(__asan_address_is_poisoned((const char *)memory + size), "%zu bytes are more", size);
}

#else

void attend_test_expect_no_leak(void) {}

void attend_test_expect_exact(const void *memory, size_t size) {
  (void)memory, (void)size;
  cr_skip_test("only the address sanitizer sees where memory ends");
}

void attend_test_allow_leaks(bool allowed) { (void)allowed; }

#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)

/* Criterion does not look at the exit status of a test that has returned: a race must end the test where it is. */
FOUND const char *__tsan_default_options(void);
const char *__tsan_default_options(void) {
  return "allocator_may_return_null=1:halt_on_error=1:ignore_noninstrumented_modules=1:die_after_fork=0";
}

/*
 * Criterion maps the memory that it shares with a test at an address made of random bits, times 2^24, from
 * 0x200000000000 on; ThreadSanitizer lets a program of x86-64 map almost nothing of that. These bits point to a part
 * that it does, below where the program itself can lie.
 */
#ifdef __x86_64__
FOUND int rand_r(unsigned *seed);
int rand_r(unsigned *seed) { return 0x350000 + (int)(++*seed % 0x5000); }
#endif

#endif

#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer) || defined(__SANITIZE_ADDRESS__) ||                \
    __has_feature(address_sanitizer)

void attend_test_skip_under_sanitizers(const char *why) { cr_skip_test("%s", why); }

#else

void attend_test_skip_under_sanitizers(const char *why) { (void)why; }

#endif
