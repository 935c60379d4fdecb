// SPDX-License-Identifier: MIT
// Which ops a network runs as, with what their time depends on.
#pragma once

#include "graph/fuse.h"

#include <mfres/machine.h>

#include <string>
#include <vector>

namespace mfres {

struct NamedExtents {
    std::string name; ///< of the main node
    OpExtents extents;
};

/// The ops of an inference form in fusion groups, as the onednn and native backends run them.
std::vector<NamedExtents> extents_of_ops(const Graph& form);

} // namespace mfres
