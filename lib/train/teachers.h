// SPDX-License-Identifier: MIT
// Teachers of a distillation: models whose mean probabilities are the targets of the trained network.
#pragma once

#include "backends/backend.h"
#include "inference/test_time_augmentation.h"

#include <mfres/normalisation.h>
#include <mfres/status.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace mfres {

/// Device, threads and input of teachers.
struct TeacherPlace {
    std::array<std::int64_t, 3> crop{};
    std::int64_t batch = 1; ///< samples
    int threads = 0;
    int device = 0;      ///< of the backend
    MirrorAxes mirror{}; ///< averaged over every combination of these axes as well
};

/// The SHA-256 of the weights of each model file, in order, joined by commas: what a recipe records. Errors: those of
/// load_model, invalid_argument (channels, normalisation or classes are not those of the training).
Result<std::string> teachers_sha256(const std::vector<std::filesystem::path>& models, Normalisation normalisation);

class Teachers {
  public:
    Teachers() = default;

    /// Loads and compiles all of them. Errors: as teachers_sha256; those of build_network (a crop that does not fit the
    /// teacher) and Backend::compile.
    static Result<Teachers> open(const std::vector<std::filesystem::path>& models, const Backend& backend,
                                 const TeacherPlace& place);

    bool empty() const { return executables_.empty(); }
    /// See teachers_sha256().
    const std::string& sha256() const { return sha256_; }

    /// The mean m of their probabilities of images [batch, channel, x, y, z] and of their mirror images, softened: t_c
    /// = m_c^(1 / temperature) over the sum of those of all classes, which for one teacher is softmax(logits /
    /// temperature). Errors: those of Executable::run.
    Status predict(const StridedView<const float>& images, double temperature, const StridedView<float>& targets) const;

  private:
    std::vector<std::unique_ptr<Executable>> executables_;
    std::string sha256_;
    int threads_ = 1;
    MirrorAxes mirror_{};
};

} // namespace mfres
