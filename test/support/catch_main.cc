// The main function of every test program. With Catch2 2 it is compiled here, once; Catch2 3 brings
// its own as a library.
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
