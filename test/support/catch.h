#pragma once

// Catch2 version 3 (Debian 13) or 2 (Debian 12), whichever is there. Only what both have is used.
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
