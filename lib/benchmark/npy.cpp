// SPDX-License-Identifier: MIT
#include "benchmark/npy.h"

#include "core/file.h"
#include "core/try.h"

#include <bit>
#include <cstring>
#include <string>
#include <vector>

namespace mfres {

Status write_npy(const std::filesystem::path& path, const StridedView<const float>& values) {
    const char* const type = std::endian::native == std::endian::little ? "<f4" : ">f4";
    std::string extents;
    for (int axis = 0; axis < values.shape.rank(); ++axis)
        extents += std::to_string(values.shape[axis]) +
                   (values.shape.rank() == 1 || axis + 1 < values.shape.rank() ? ", " : "");
    std::string header = text("{'descr': '", type, "', 'fortran_order': False, 'shape': (", extents, "), }");
    // Magic, version and length take 10 bytes. Together with them the header, padded with spaces and ended by a line
    // feed, must be a multiple of 64 bytes.
    header.resize((header.size() + 11 + 63) / 64 * 64 - 11, ' ');
    header += '\n';
    std::string start("\x93NUMPY\x01\x00", 8);
    start += static_cast<char>(header.size() & 0xFFU);
    start += static_cast<char>(header.size() >> 8U);
    start += header;

    Tensor dense(values.shape);
    copy(values, view(dense));
    std::vector<std::byte> bytes(start.size() + dense.values().size_bytes());
    std::memcpy(bytes.data(), start.data(), start.size());
    std::memcpy(bytes.data() + start.size(), dense.data(), dense.values().size_bytes());
    return write_file_atomically(path, bytes);
}

} // namespace mfres
