#include "mlx_lm/load/pooling.h"

#include <fstream>

#include <gtest/gtest.h>

#include "mlx_lm/base/error.h"

#include "temp_folder.h"

namespace mlx_lm {
namespace {

