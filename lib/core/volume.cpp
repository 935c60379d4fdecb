// SPDX-License-Identifier: MIT
#include <mfres/volume.h>

namespace mfres {

std::string_view name(Modality modality) noexcept {
    switch (modality) {
    case Modality::t1: return "t1";
    case Modality::t1ce: return "t1ce";
    case Modality::t2: return "t2";
    case Modality::flair: return "flair";
    }
    return "unknown";
}

std::string names(const ModalitySet& set) {
    std::string list;
    for (const Modality modality : modalities)
        if (set[static_cast<std::size_t>(modality)])
            list.append(list.empty() ? "" : ",").append(name(modality));
    return list;
}

} // namespace mfres
