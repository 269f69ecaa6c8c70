/* The limit on this kernel: a canned answer to the upgrade, then one send() (or SSL_write()) for each connection and message.
 *
 *     send_loop PORT [CERTIFICATE]
 *
 * A line on its input says how many messages a second, and how many. It reads nothing after the upgrade, and accepts nobody
 * while it publishes.
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 20000

static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static struct { int fd; SSL *ssl; } clients[MOST];
static int count, number;
static SSL_CTX *tls;

static double clock_s(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void let_in(int client) {
    char head[4096];
    int one = 1;
    SSL *ssl = NULL;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (tls) {
        ssl = SSL_new(tls);
        SSL_set_fd(ssl, client);
        if (SSL_accept(ssl) != 1 || SSL_read(ssl, head, sizeof head) <= 0 || SSL_write(ssl, ANSWER, sizeof ANSWER - 1) <= 0) {
            SSL_free(ssl);
            close(client);
            return;
        }
    } else if (read(client, head, sizeof head) <= 0 || write(client, ANSWER, sizeof ANSWER - 1) < 0) {
        close(client);
        return;
    }
    clients[count].fd = client;
    clients[count++].ssl = ssl;
}

static void publish(void) {
    char stamp[40], *text;
    unsigned char frame[600];
    time_t second = time(NULL);
    int64_t now_us = (int64_t)(clock_s(CLOCK_REALTIME) * 1e6);
    double price = (double)(now_us % 10000000000LL) / 1e6;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", gmtime(&second));
    snprintf(stamp + strlen(stamp), 10, ".%03dZ", (int)(now_us / 1000 % 1000));
    int length = asprintf(&text,
                          "{\"type\":\"price_update\",\"data\":{\"symbol\":\"GOLD0\",\"close\":%.6f,\"change\":null,\"change_pct\":null,"
                          "\"timestamp\":\"%s\",\"bid\":%.6f,\"ask\":%.6f,\"source\":\"kraken\",\"instrument\":\"token\",\"quality\":\"live\"},"
                          "\"timestamp\":\"%s\",\"update_count\":%d}", price, stamp, price, price, stamp, ++number);
    frame[0] = 0x81, frame[1] = 126, frame[2] = (unsigned char)(length >> 8), frame[3] = (unsigned char)length;
    memcpy(frame + 4, text, (size_t)length);
    free(text);
    for (int i = 0; i < count; i++) {
        if (clients[i].ssl) SSL_write(clients[i].ssl, frame, length + 4);
        else send(clients[i].fd, frame, (size_t)length + 4, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: send_loop PORT [CERTIFICATE]\n"); return 2; }
    if (argc > 2) {
        tls = SSL_CTX_new(TLS_server_method());
        SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
        if (SSL_CTX_use_certificate_chain_file(tls, argv[2]) != 1 || SSL_CTX_use_PrivateKey_file(tls, argv[2], SSL_FILETYPE_PEM) != 1) {
            fprintf(stderr, "send_loop: %s has no certificate and key\n", argv[2]);
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) { perror("send_loop"); return 2; }
    struct pollfd watched[] = {{.fd = listener, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
    while (poll(watched, 2, -1) > 0) {
        if (watched[0].revents && count < MOST) let_in(accept(listener, NULL, NULL));
        if (watched[1].revents) {
            char order[64] = {0};
            if (read(0, order, sizeof order - 1) <= 0) return 0;
            char *rest;
            double rate = strtod(order, &rest), began = clock_s(CLOCK_MONOTONIC);
            int messages = atoi(rest);
            for (int i = 0; i < messages; i++) {
                double wait = began + i / rate - clock_s(CLOCK_MONOTONIC);
                if (wait > 0) usleep((useconds_t)(wait * 1e6));
                publish();
            }
        }
    }
    return 0;
}
