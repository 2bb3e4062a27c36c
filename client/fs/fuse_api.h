#pragma once

// The only place that includes libfuse. The version is that of Debian 12's libfuse; newer ones keep
// it. Staying below 3.17 keeps fuse_session_custom_io() as it is there.
#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 12)
#include <fuse_lowlevel.h>
