/* What a program was built with decides how far its loops go. */
#ifndef MLY_TEST_PACE_H
#define MLY_TEST_PACE_H

/* What goes wrong behind a failed call, a cut or a damaged byte shows with any compiler, so plain
 * builds go through all of them. Sanitizers are there for what only they see, and that is alike in
 * neighbours; a round under them takes ten to twenty times as long. They go in larger steps. */
#if defined(__has_feature)
#define TEST_HAS_FEATURE(name) __has_feature(name)
#else
#define TEST_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_THREAD__) || TEST_HAS_FEATURE(thread_sanitizer)
#define TEST_PACE(plain, address, threads) (threads)
#elif defined(__SANITIZE_ADDRESS__) || TEST_HAS_FEATURE(address_sanitizer)
#define TEST_PACE(plain, address, threads) (address)
#else
#define TEST_PACE(plain, address, threads) (plain)
#endif

#endif
