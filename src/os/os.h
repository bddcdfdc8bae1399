/* The door of os/: the only room with system calls. */
#ifndef MLY_OS_OS_H
#define MLY_OS_OS_H

#include "os/clock.h"
#include "os/dir.h"
#include "os/env.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/maps.h"
#include "os/notify.h"
#include "os/pool.h"
#include "os/runtime.h"

#endif
