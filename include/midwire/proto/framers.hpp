#pragma once

// All framers.
#include <midwire/proto/custom_framer.hpp>
#include <midwire/proto/delimiter_framer.hpp>
#include <midwire/proto/fixed_framer.hpp>
#include <midwire/proto/framer.hpp>
#include <midwire/proto/length_framer.hpp>
#include <midwire/proto/line_framer.hpp>
#include <midwire/proto/netstring_framer.hpp>
#include <midwire/proto/varint_framer.hpp>
