#pragma once

/// What programs link to: the library is built with hidden symbols, and exports what bears this.
#define MIDWIRE_API [[gnu::visibility("default")]]
