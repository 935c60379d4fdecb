// SPDX-License-Identifier: MIT
// MPI as the library sees it: the module libmfres_mpi.so, opened in processes that a launcher of MPI started.
#include "backends/distributed/communicator.h"
#include "core/module.h"
#include "core/try.h"

namespace mfres {

#ifdef MFRES_WITH_MPI

namespace {

Result<const mpi::Functions*> opened() {
    static const auto functions = open_module_as<mpi::Functions>("mpi");
    return functions;
}

} // namespace

std::string mpi_description() {
    const auto functions = opened();
    return functions ? (*functions)->description() : std::string();
}

Result<std::shared_ptr<Communicator>> mpi::join(const Launch& launch) {
    const auto functions = opened();
    if (!functions)
        return Error{functions.error().code,
                     text(launch.variable, " says that this is one of ", launch.size,
                          " processes of one training: ", functions.error().message),
                     launch.variable};
    return (*functions)->join(launch);
}

#else

std::string mpi_description() {
    return {};
}

Result<std::shared_ptr<Communicator>> mpi::join(const Launch& launch) {
    return Error{ErrorCode::backend_unavailable,
                 text(launch.variable, " says that this is one of ", launch.size,
                      " processes of one training; this needs a build of mfres with MPI, which this build is not, or "
                      "MASTER_ADDR and MASTER_PORT of rank 0"),
                 launch.variable};
}

#endif

} // namespace mfres
