// SPDX-License-Identifier: MIT
// In place of sockets.cpp, which uses those of POSIX.
#ifdef _WIN32

#include "backends/distributed/sockets.h"

namespace mfres {

namespace {

Error unsupported() {
    return {ErrorCode::operation_unsupported,
            "this build of mfres joins no processes for a training; train in one, or on Linux", "WORLD_SIZE"};
}

} // namespace

Result<std::string> rendezvous_secret(const Environment&) {
    return unsupported();
}

void set_rank_interrupt(bool (*)()) {}

Result<std::shared_ptr<Communicator>> join_sockets(const Launch&, const Rendezvous&, const SocketOptions&) {
    return unsupported();
}

} // namespace mfres

#endif // _WIN32
