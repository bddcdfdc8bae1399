/* cmocka with the headers it needs before it. */
#ifndef MLY_TEST_MLY_CMOCKA_H
#define MLY_TEST_MLY_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
