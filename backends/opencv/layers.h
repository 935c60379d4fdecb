// SPDX-License-Identifier: MIT
// A program of planes as a network of OpenCV layers.
#pragma once

#include "graph/plain.h"

#include <opencv2/dnn.hpp>

#include <string>
#include <vector>

namespace mfres::opencv {

/// A network whose layers stand for the program's steps.
struct Layers {
    cv::dnn::Net net;
    std::vector<std::string> outputs; ///< layers whose results are the program's outputs
    std::vector<std::string> types;   ///< of the layer of each step, "Convolution"
};

/// Builds the network. Its layers refer to the program's constants, which must outlive it. Throws what OpenCV throws.
/// Precondition: no shape of the program has more than four axes or an extent beyond int.
Layers make_layers(const plain::Program& program);

/// Bytes that OpenCV holds for the values of a program at most: like its own manager, a value takes the smallest block
/// nobody needs any more that is large enough, or else a new one, and blocks are never split or joined.
std::int64_t value_bytes(const plain::Program& program);

} // namespace mfres::opencv
