// SPDX-License-Identifier: MIT
// Names and colours of label values, in the files from which viewers read them.
#pragma once

#include "imaging/labels.h"

#include <string>

namespace mfres {

/// Of ITK-SNAP: "label descriptions", Segmentation > Import Label Descriptions.
std::string itk_snap_labels(const LabelCoding& coding);

/// Of 3D Slicer: a colour table (.ctbl), to be opened with the data.
std::string slicer_colours(const LabelCoding& coding);

} // namespace mfres
