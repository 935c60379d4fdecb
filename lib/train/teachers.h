// SPDX-License-Identifier: MIT
// Teachers of a distillation: models whose mean probabilities are the targets of the trained network.
#pragma once

#include "backends/backend.h"
#include "core/outputs.h"
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
    int device = 0;                     ///< of the backend
    Outputs outputs = Outputs::classes; ///< of the network that is taught
};

/// The SHA-256 of the weights of each model file, in order, joined by commas: what a recipe records. Errors: those of
/// load_model, invalid_argument (channels, normalisation or classes are not those of the training; a teacher that tells
/// regions of a network with classes, since regions need not be nested).
Result<std::string> teachers_sha256(const std::vector<std::filesystem::path>& models, Normalisation normalisation,
                                    Outputs outputs);

class Teachers {
  public:
    Teachers() = default;

    /// Loads and compiles all of them. Errors: as teachers_sha256; those of build_network (a crop that does not fit the
    /// teacher) and Backend::compile.
    static Result<Teachers> open(const std::vector<std::filesystem::path>& models, const Backend& backend,
                                 const TeacherPlace& place);

    bool empty() const { return teachers_.empty(); }
    /// See teachers_sha256().
    const std::string& sha256() const { return sha256_; }

    /// The mean m of their probabilities of images [batch, channel, x, y, z], softened: t_c = m_c^(1 / temperature) over
    /// the sum of those of all classes, which for one teacher is softmax(logits / temperature). For regions m_r is the
    /// mean of their sigmoids or of the sums of their classes, and t_r = m_r^(1 / temperature) over the sum of that and
    /// (1 - m_r)^(1 / temperature). The teachers see the images mirrored along `mirror`; the targets are those of the
    /// images as they are. Errors: those of Executable::run.
    Status predict(const StridedView<const float>& images, double temperature, const StridedView<float>& targets,
                   const MirrorAxes& mirror = {}) const;

  private:
    struct Teacher {
        std::unique_ptr<Executable> executable;
        Outputs outputs;
    };

    std::vector<Teacher> teachers_;
    Outputs outputs_ = Outputs::classes;
    std::string sha256_;
    int threads_ = 1;
};

} // namespace mfres
