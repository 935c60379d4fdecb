// SPDX-License-Identifier: MIT
#include "backends/distributed/sockets.h"

#include "backends/planned/gradient_contribution.h"
#include "core/try.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <thread>
#include <utility>

namespace mfres {

namespace {

using Clock = std::chrono::steady_clock;

Error socket_error(std::string sentence) {
    return {ErrorCode::backend_failed, std::move(sentence), "MASTER_ADDR"};
}

/// A file descriptor that is closed with the object.
class Descriptor {
  public:
    explicit Descriptor(int number = -1) : number_(number) {}
    Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(number_, other.number_);
        return *this;
    }
    ~Descriptor() {
        if (number_ >= 0)
            ::close(number_);
    }
    int number() const { return number_; }
    bool valid() const { return number_ >= 0; }

  private:
    int number_;
};

/// Header of a message. All processes must run the same build on machines of the same byte order, which `magic` checks.
struct Header {
    enum class Kind : std::uint8_t { hello, contribution, result, failure, farewell };
    static constexpr std::uint64_t this_version = 0x3130736572666d21; // "!mfres01"

    std::uint64_t magic = this_version;
    std::uint64_t bytes = 0;
    std::int32_t root = 0; ///< of a hello: the rank
    std::int32_t size = 0; ///< of a hello: how many ranks it expects
    Kind kind = Kind::contribution;
    Collective call = Collective::barrier;
};

struct Message {
    Header header;
    std::vector<std::byte> bytes; ///< aligned for numbers, because operator new allocates it
};

constexpr std::uint64_t largest_message = std::uint64_t{1} << 40U;

/// A non-blocking connection with queues of messages.
class Peer {
  public:
    explicit Peer(Descriptor socket = Descriptor()) : socket_(std::move(socket)) {}

    int socket() const { return socket_.number(); }
    bool open() const { return socket_.valid() && !gone_; }
    bool left_in_order() const { return farewell_; }
    bool sends() const { return sent_ < out_.size(); }

    void send(Header header, std::span<const std::byte> bytes) {
        header.bytes = bytes.size();
        const auto* head = reinterpret_cast<const std::byte*>(&header);
        out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(sent_));
        sent_ = 0;
        out_.insert(out_.end(), head, head + sizeof header);
        out_.insert(out_.end(), bytes.begin(), bytes.end());
    }

    void write_some() {
        while (sends()) {
            const auto count = ::send(socket(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
            if (count <= 0)
                return end_if_broken();
            sent_ += static_cast<std::size_t>(count);
        }
    }

    void read_some() {
        std::array<std::byte, 65536> part{};
        while (open()) {
            // The body is received directly into the message.
            const bool in_body = head_read_ == sizeof(Header);
            std::byte* const to = in_body ? now_.bytes.data() + body_read_ : part.data();
            const std::size_t room = in_body ? now_.bytes.size() - body_read_ : sizeof(Header) - head_read_;
            const auto count = ::recv(socket(), to, room, 0);
            if (count == 0) {
                gone_ = true;
                return;
            }
            if (count < 0)
                return end_if_broken();
            in_body ? take_body(static_cast<std::size_t>(count))
                    : take_head(part.data(), static_cast<std::size_t>(count));
        }
    }

    std::deque<Message>& arrived() { return arrived_; }

  private:
    void end_if_broken() {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            gone_ = true;
    }

    void take_head(const std::byte* bytes, std::size_t count) {
        std::memcpy(reinterpret_cast<std::byte*>(&now_.header) + head_read_, bytes, count);
        head_read_ += count;
        if (head_read_ < sizeof(Header))
            return;
        if (now_.header.magic != Header::this_version || now_.header.bytes > largest_message) {
            gone_ = true; // not a rank of this training
            return;
        }
        now_.bytes.resize(static_cast<std::size_t>(now_.header.bytes));
        finish_if_complete();
    }

    void take_body(std::size_t count) {
        body_read_ += count;
        finish_if_complete();
    }

    void finish_if_complete() {
        if (body_read_ < now_.bytes.size())
            return;
        if (now_.header.kind == Header::Kind::farewell)
            farewell_ = true;
        else
            arrived_.push_back(std::move(now_));
        now_ = {};
        head_read_ = body_read_ = 0;
    }

    Descriptor socket_;
    bool gone_ = false;
    bool farewell_ = false;
    std::vector<std::byte> out_;
    std::size_t sent_ = 0;
    Message now_;
    std::size_t head_read_ = 0, body_read_ = 0;
    std::deque<Message> arrived_;
};

/// Waits up to `milliseconds` for an event, then reads and writes without blocking.
void move_messages(std::vector<Peer*> peers, int milliseconds) {
    std::vector<pollfd> polled;
    std::erase_if(peers, [](const Peer* peer) { return !peer->open(); });
    for (const Peer* peer : peers)
        polled.push_back({peer->socket(), static_cast<short>(POLLIN | (peer->sends() ? POLLOUT : 0)), 0});
    if (::poll(polled.data(), polled.size(), milliseconds) <= 0)
        return;
    for (std::size_t i = 0; i < peers.size(); ++i) {
        if ((polled[i].revents & POLLOUT) != 0)
            peers[i]->write_some();
        if ((polled[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            peers[i]->read_some();
    }
}

class SocketRank final : public Communicator {
  public:
    /// `peers` in the order of ranks: all other ranks on rank 0, rank 0 alone on the others.
    SocketRank(const Launch& launch, std::vector<Peer> peers) : launch_(launch), peers_(std::move(peers)) {}
    SocketRank(const SocketRank&) = delete;
    SocketRank& operator=(const SocketRank&) = delete;
    ~SocketRank() override {
        Header farewell;
        farewell.kind = Header::Kind::farewell;
        for (Peer& peer : peers_)
            if (peer.open())
                peer.send(farewell, {});
        flush(std::chrono::seconds(10));
    }

    int rank() const override { return launch_.rank; }
    int size() const override { return launch_.size; }
    int local_rank() const override { return launch_.local_rank; }

    Status all_reduce_sum(std::span<double> values) override {
        return collective({Collective::sum_doubles, std::as_writable_bytes(values), 0});
    }
    Status all_reduce_sum(std::span<float> values) override {
        return collective({Collective::sum_floats, std::as_writable_bytes(values), 0});
    }
    Status start_sum(std::span<float> values) override { // at once
        return collective({Collective::start_sum, std::as_writable_bytes(values), 0});
    }
    Status finish_sums() override { return check(); }
    Status broadcast(std::span<std::byte> bytes, int root) override {
        return collective({Collective::broadcast, bytes, root});
    }
    Status barrier() override { return collective({Collective::barrier, {}, 0}); }

    void fail(const Error& error) override {
        if (failure_)
            return;
        failure_ = error;
        tell(error_on_rank(rank(), error), -1);
        flush(std::chrono::seconds(10));
    }

    Status check() override {
        look(0);
        return failure_ ? Status(*failure_) : Status();
    }

  private:
    std::vector<Peer*> all_peers() {
        std::vector<Peer*> all;
        for (Peer& peer : peers_)
            all.push_back(&peer);
        return all;
    }

    /// Sends a failure to every peer except rank `from`.
    void tell(const Error& error, int from) {
        const std::vector<char> words = encode_error(error);
        Header header;
        header.kind = Header::Kind::failure;
        for (std::size_t i = 0; i < peers_.size(); ++i)
            if (peers_[i].open() && rank_of(i) != from)
                peers_[i].send(header, std::as_bytes(std::span(words)));
    }

    int rank_of(std::size_t peer) const { return launch_.rank == 0 ? static_cast<int>(peer) + 1 : 0; }

    /// Exchanges messages and processes failures. A connection that ends without a farewell counts as a failure.
    void look(int milliseconds) {
        move_messages(all_peers(), milliseconds);
        for (std::size_t i = 0; i < peers_.size() && !failure_; ++i) {
            auto& arrived = peers_[i].arrived();
            for (const Message& message : arrived)
                if (message.header.kind == Header::Kind::failure && !failure_) {
                    const auto* words = reinterpret_cast<const char*>(message.bytes.data());
                    failure_ = decode_error({words, words + message.bytes.size()});
                }
            if (!failure_ && !peers_[i].open() && !peers_[i].left_in_order())
                failure_ = socket_error(text("rank ", rank_of(i), " is gone"));
            if (failure_) {
                tell(*failure_, rank_of(i));
                flush(std::chrono::seconds(1));
            }
        }
    }

    /// Sends all queued messages, for at most `spin_timeout`.
    void flush(std::chrono::seconds spin_timeout) {
        const auto latest = Clock::now() + spin_timeout;
        const auto sends = [](const Peer& peer) { return peer.open() && peer.sends(); };
        while (std::any_of(peers_.begin(), peers_.end(), sends) && Clock::now() < latest)
            move_messages(all_peers(), 100);
    }

    /// Waits for the next message of a peer.
    Result<Message> receive(std::size_t peer) {
        auto& arrived = peers_[peer].arrived();
        while (arrived.empty()) {
            if (peers_[peer].left_in_order())
                failure_ = socket_error(text("rank ", rank_of(peer), " is gone"));
            if (failure_)
                return *failure_;
            look(100);
        }
        if (failure_)
            return *failure_;
        Message message = std::move(arrived.front());
        arrived.pop_front();
        return message;
    }

    Status collective(const Contribution& own) {
        MFRES_CHECK(check());
        return launch_.rank == 0 ? lead(own) : follow(own);
    }

    Status follow(const Contribution& own) {
        Header header;
        header.kind = Header::Kind::contribution;
        header.call = own.call;
        header.root = own.root;
        // In a broadcast these bytes are not used, but their number is compared.
        peers_[0].send(header, own.bytes);
        MFRES_TRY(const Message result, receive(0));
        if (result.bytes.size() != own.bytes.size())
            return Error{ErrorCode::internal,
                         text("rank 0 sent ", result.bytes.size(), " bytes in place of ", own.bytes.size()),
                         {}};
        if (!own.bytes.empty())
            std::memcpy(own.bytes.data(), result.bytes.data(), own.bytes.size());
        return {};
    }

    Status lead(const Contribution& own) {
        std::vector<Message> messages;
        std::vector<Contribution> all{own};
        for (std::size_t i = 0; i < peers_.size(); ++i) {
            MFRES_TRY(Message message, receive(i));
            messages.push_back(std::move(message));
        }
        for (Message& message : messages)
            all.push_back({message.header.call, message.bytes, message.header.root});
        if (const Status agreed = check_agreement(all); !agreed) {
            failure_ = agreed.error();
            tell(*failure_, -1);
            flush(std::chrono::seconds(10));
            return *failure_;
        }
        combine(all);
        Header header;
        header.kind = Header::Kind::result;
        header.call = own.call;
        for (Peer& peer : peers_)
            peer.send(header, own.bytes);
        const auto sends = [](const Peer& peer) { return peer.open() && peer.sends(); };
        while (std::any_of(peers_.begin(), peers_.end(), sends)) // the others are waiting for the result
            move_messages(all_peers(), 100);
        return {};
    }

    Launch launch_;
    std::vector<Peer> peers_;
    std::optional<Error> failure_;
};

// ---- rendezvous -----------------------------------------------------------------------------------------------------

/// Addresses of the rendezvous.
using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> resolve(const Rendezvous& place) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int problem = getaddrinfo(place.address.c_str(), std::to_string(place.port).c_str(), &hints, &found);
        problem != 0)
        return socket_error(text("the address ", place.address, " of rank 0 is unknown: ", gai_strerror(problem)));
    return Addresses(found, &freeaddrinfo);
}

bool is_loopback(const addrinfo& address) {
    if (address.ai_family == AF_INET)
        return ntohl(reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr.s_addr) >> 24U == 127;
    return address.ai_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
}

Descriptor make_ready(Descriptor made) {
    const int socket = made.number();
    const int on = 1;
    (void)::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); // send small messages without delay
    (void)::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
    return made;
}

Result<Descriptor> listen_at(const Rendezvous& place) {
    MFRES_TRY(const Addresses addresses, resolve(place));
    addrinfo wanted = *addresses;
    sockaddr_in any4{};
    sockaddr_in6 any6{};
    if (!is_loopback(wanted) && wanted.ai_family == AF_INET) {
        any4.sin_family = AF_INET;
        any4.sin_port = htons(static_cast<std::uint16_t>(place.port));
        wanted.ai_addr = reinterpret_cast<sockaddr*>(&any4);
    } else if (!is_loopback(wanted)) {
        any6.sin6_family = AF_INET6;
        any6.sin6_port = htons(static_cast<std::uint16_t>(place.port));
        wanted.ai_addr = reinterpret_cast<sockaddr*>(&any6);
    }
    Descriptor listener(::socket(wanted.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    if (listener.valid())
        (void)::setsockopt(listener.number(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (!listener.valid() || ::bind(listener.number(), wanted.ai_addr, wanted.ai_addrlen) != 0 ||
        ::listen(listener.number(), SOMAXCONN) != 0)
        return socket_error(
            text("rank 0 cannot listen at ", place.address, " port ", place.port, ": ", std::strerror(errno)));
    return listener;
}

/// Accepts the connections of all other ranks; ordered by rank.
Result<std::vector<Peer>> welcome(const Launch& launch, const Rendezvous& place, Clock::time_point latest) {
    MFRES_TRY(const Descriptor listener, listen_at(place));
    std::vector<Peer> ranks(static_cast<std::size_t>(launch.size) - 1);
    std::vector<Peer> strangers;
    std::size_t missing = ranks.size();
    while (missing > 0) {
        if (Clock::now() > latest)
            return socket_error(text(missing, " of ", launch.size, " processes have not come to ", place.address,
                                     " port ", place.port));
        pollfd coming{listener.number(), POLLIN, 0};
        if (::poll(&coming, 1, 20) > 0)
            if (const int accepted = ::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC); accepted >= 0)
                strangers.emplace_back(make_ready(Descriptor(accepted)));
        std::vector<Peer*> all;
        for (Peer& stranger : strangers)
            all.push_back(&stranger);
        move_messages(all, 0);
        for (Peer& stranger : strangers) {
            if (stranger.arrived().empty())
                continue;
            const Header hello = stranger.arrived().front().header;
            stranger.arrived().pop_front();
            if (hello.kind != Header::Kind::hello || hello.size != launch.size || hello.root < 1 ||
                hello.root >= launch.size || ranks[static_cast<std::size_t>(hello.root) - 1].open())
                return socket_error(text("a process came as rank ", hello.root, " of ", hello.size,
                                         ", which is not one of the ", launch.size, " that rank 0 waits for"));
            ranks[static_cast<std::size_t>(hello.root) - 1] = std::move(stranger);
            --missing;
        }
        std::erase_if(strangers, [](const Peer& peer) { return !peer.open(); });
    }
    return ranks;
}

/// Connects to rank 0.
Result<std::vector<Peer>> visit(const Launch& launch, const Rendezvous& place, Clock::time_point latest) {
    std::string problem = "no process listens there";
    do {
        const auto addresses = resolve(place);
        if (!addresses)
            problem = addresses.error().message;
        for (const addrinfo* one = addresses ? addresses->get() : nullptr; one; one = one->ai_next) {
            Descriptor socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
            if (!socket.valid() || ::connect(socket.number(), one->ai_addr, one->ai_addrlen) != 0) {
                problem = std::strerror(errno);
                continue;
            }
            std::vector<Peer> peers;
            peers.emplace_back(make_ready(std::move(socket)));
            Header hello;
            hello.kind = Header::Kind::hello;
            hello.root = launch.rank;
            hello.size = launch.size;
            peers[0].send(hello, {});
            return peers;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } while (Clock::now() < latest);
    return socket_error(
        text("rank ", launch.rank, " does not reach rank 0 at ", place.address, " port ", place.port, ": ", problem));
}

} // namespace

Result<std::shared_ptr<Communicator>> join_sockets(const Launch& launch, const Rendezvous& place,
                                                   std::chrono::seconds spin_timeout) {
    const auto latest = Clock::now() + spin_timeout;
    MFRES_TRY(auto peers, launch.rank == 0 ? welcome(launch, place, latest) : visit(launch, place, latest));
    auto ranks = std::make_shared<SocketRank>(launch, std::move(peers));
    MFRES_CHECK(ranks->barrier());
    return std::shared_ptr<Communicator>(std::move(ranks));
}

} // namespace mfres
