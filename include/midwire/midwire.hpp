#pragma once

#include <midwire/engine.hpp>
#include <midwire/rules/rule.hpp>
#include <midwire/rules/rule_stage.hpp>
