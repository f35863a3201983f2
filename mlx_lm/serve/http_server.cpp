#include "mlx_lm/serve/http_server.h"

#include <boost/asio/bind_executor.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/strand.hpp>
#include <thread>
#include <utility>
#include <vector>

#include "mlx_lm/base/error.h"
#include "mlx_lm/serve/http_connection.h"

namespace mlx_lm::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

// Beyond the limit, so many more are told so; others are just closed.
constexpr size_t kRefusals = 64;
// Until a connection is accepted again when the system is out of descriptors or memory.
constexpr std::chrono::milliseconds kPause{100};

std::shared_ptr<HttpContext> make_context(HttpOptions options, HttpHandler handler) {
  options.validate();
  return std::make_shared<HttpContext>(std::move(options), std::move(handler));
}

void check(const error_code& error, const char* what, const std::string& path) {
  if (error)
    fail<RequestError>("[server] {}: expected one in PEM, found an error: {}, {}", what, error.message(), path);
}

void set_up_tls(HttpContext& context) {
  const auto& options = context.options;
  if (options.tls_certificate.empty()) return;
  auto& tls = context.tls.emplace(asio::ssl::context::tls_server);
  SSL_CTX_set_min_proto_version(tls.native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(tls.native_handle(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  error_code error;
  check(tls.use_certificate_chain_file(options.tls_certificate, error), "TLS certificate", options.tls_certificate);
  check(tls.use_private_key_file(options.tls_key, asio::ssl::context::pem, error), "TLS key", options.tls_key);
}

tcp::acceptor listen(asio::io_context& io, const HttpOptions& options) {
  auto host = options.host;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const auto port = std::to_string(options.port);
  tcp::acceptor acceptor(asio::make_strand(io));
  error_code error;
  for (const auto& entry : tcp::resolver(io).resolve(host, port, tcp::resolver::passive, error)) {
    const auto endpoint = entry.endpoint();
    error_code ignored;
    acceptor.close(ignored);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    // "::" is every address, those of IPv4 too.
    if (endpoint.address().is_v6()) acceptor.set_option(asio::ip::v6_only(false), ignored);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
    if (!error) return acceptor;
  }
  fail<RequestError>("[server] {}:{}: expected an address to listen on, found: {}", options.host, options.port,
                     error.message());
}

}  // namespace

// Its members are used on the acceptor's strand.
class HttpServer::Listener {
 public:
  Listener(HttpOptions options, HttpHandler handler)
      : context_(make_context(std::move(options), std::move(handler))),
        acceptor_(listen(context_->io, context_->options)),
        timer_(acceptor_.get_executor()),
        port_(acceptor_.local_endpoint().port()) {
    set_up_tls(*context_);
    context_->on_empty = [this] {
      asio::post(acceptor_.get_executor(), [this] {
        if (is_stopping_) timer_.cancel();
      });
    };
  }

  int port() const { return port_; }

  void run() {
    asio::post(acceptor_.get_executor(), [this] { accept(); });
    const auto work = [this] {
      for (;;) {
        try {
          context_->io.run();
          return;
        } catch (const std::exception&) {
          // Memory ran out for one connection; the others go on.
        }
      }
    };
    std::vector<std::jthread> threads;
    for (int i = 1; i < context_->options.threads; ++i) threads.emplace_back(work);
    work();
  }

  void stop(std::chrono::milliseconds grace) {
    asio::post(acceptor_.get_executor(), [this, grace] {
      is_stopping_ = true;
      error_code ignored;
      acceptor_.close(ignored);
      timer_.cancel();
      if (call_all(&HttpConnection::drain) == 0) return;
      timer_.expires_after(grace);
      timer_.async_wait([this](error_code error) {
        if (!error) call_all(&HttpConnection::cut);
      });
    });
  }

 private:
  void accept() {
    if (is_stopping_) return;
    acceptor_.async_accept(asio::make_strand(context_->io),
                           asio::bind_executor(acceptor_.get_executor(), [this](error_code error, auto socket) {
                             on_accept(error, std::move(socket));
                           }));
  }

  template <class Socket>
  void on_accept(error_code error, Socket socket) {
    if (is_stopping_) return;
    if (!error) {
      add(std::move(socket));
    } else if (error != asio::error::connection_aborted) {
      timer_.expires_after(kPause);
      timer_.async_wait([this](error_code) { accept(); });
      return;
    }
    accept();
  }

  void add(tcp::socket socket) {
    const auto connection = std::make_shared<HttpConnection>(context_, std::move(socket));
    std::lock_guard lock(context_->mutex);
    const auto others = context_->connections.size();
    const auto limit = static_cast<size_t>(context_->options.connections);
    if (others >= limit + kRefusals) return;
    context_->connections.insert(connection);
    HttpConnection::post(connection, &HttpConnection::start, others >= limit);
  }

  // How many there are.
  size_t call_all(void (HttpConnection::*call)()) {
    std::lock_guard lock(context_->mutex);
    for (const auto& connection : context_->connections) HttpConnection::post(connection, call);
    return context_->connections.size();
  }

  const std::shared_ptr<HttpContext> context_;
  tcp::acceptor acceptor_;
  asio::steady_timer timer_;  // for a pause, and then the grace
  const int port_;
  bool is_stopping_ = false;
};

HttpServer::HttpServer(HttpOptions options, HttpHandler handler)
    : listener_(std::make_unique<Listener>(std::move(options), std::move(handler))) {}
HttpServer::~HttpServer() = default;
int HttpServer::port() const { return listener_->port(); }
void HttpServer::run() { listener_->run(); }
void HttpServer::stop(std::chrono::milliseconds grace) { listener_->stop(grace); }

}  // namespace mlx_lm::serve
