/* A crowd of WebSocket clients in one process, plain or TLS, that reads as fast as a server can send.
 *
 *     load PORT PATH CONNECTIONS [tls] [network=N] [at-once=N] [pause-ms=N] [text=STRING] [binary=HEX]
 *
 * They come from 127.NETWORK.x.y, five from each address. `text` and `binary` are what a connection sends when it is open; with
 * both, every second one is a client of MessagePack and sends the binary one. `at-once` handshakes are under way at a time.
 * With `pause-ms` they look only so often, and have room for 16 KiB meanwhile: a server has more for them than they take.
 *
 * As soon as every connection is open or has failed, it prints a line of JSON on how they came. Then each line on its input
 * is answered by a line: `mark` forgets what was counted and begins anew, `report` says what was counted since, `look` the
 * same without the delays, which takes no time. It ends when its input does.
 *
 * A price is the moment at which it was sent: microseconds of the wall clock, modulo 10^10, as 1234.567890; it is looked for
 * behind "close", and the delay is from then until the message was read. Every message of a channel has a number of its own
 * ("update_count"), and says how many it stands for where it is more than one ("conflated"). So each connection is known to
 * have had every message of a channel, in order and once, or that `lost` or `repeated` is more than 0. `channels` has how many
 * messages of each were delivered, all that they stand for included; `behind`, how many connections lack a channel's newest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHANNELS 64           /* of one server, at most */
#define BUFFER (256 * 1024)   /* what one read may bring; what of it is no whole frame yet is kept by its connection */
#define WRAPS_US 10000000000LL /* a price comes round in two hours and three quarters */
#define PER_ADDRESS 5

enum state { CONNECTING, SHAKING_HANDS, UPGRADING, OPEN, GONE };

struct client {
    int fd;
    enum state state;
    bool msgpack;
    SSL *ssl;
    unsigned char *rest; /* the beginning of a frame that is not whole */
    size_t rest_length;
    int64_t began_us;
    uint32_t last[CHANNELS]; /* the newest number of each channel; 0: none yet */
};

static struct client *clients;
static struct { char name[64]; uint32_t newest; uint64_t stood_for; } channels[CHANNELS];
static int connections, port, channel_count, poller, opened, failed, lost_connections, started, under_way, pause_ms, network = 1, at_once = 64;
static const char *path, *text;
static unsigned char binary[4096];
static size_t binary_length;
static SSL_CTX *tls;
static char first_error[200];

static uint64_t delivered, conflated, lost, repeated, others, bytes;
static uint32_t *delays_us, *opening_us;
static size_t delay_count, delay_room, opening_count;

static int64_t clock_us(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void give_up(struct client *client, const char *why) {
    if (client->state == GONE) return;
    if (client->state == OPEN) lost_connections++;
    else failed++, under_way--;
    if (!first_error[0]) {
        snprintf(first_error, sizeof first_error, "%s", why);
        for (char *at = first_error; *at; at++) if ((unsigned char)*at < ' ' || *at == '"' || *at == '\\') *at = ' ';
    }
    client->state = GONE;
    if (client->ssl) SSL_free(client->ssl);
    client->ssl = NULL;
    free(client->rest);
    client->rest = NULL;
    close(client->fd);
}

/* All that is ever sent is short and comes seldom, so it fits. */
static void send_all(struct client *client, const void *data, size_t length) {
    ssize_t sent = client->ssl ? SSL_write(client->ssl, data, (int)length) : send(client->fd, data, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length) give_up(client, "what is sent does not fit into the socket");
}

static void send_frame(struct client *client, int opcode, const void *payload, size_t length) {
    unsigned char frame[8 + 65536];
    size_t head = 2;
    if (length > 65535) { give_up(client, "a frame to send is too long"); return; }
    frame[0] = (unsigned char)(0x80 | opcode);
    if (length < 126) frame[1] = (unsigned char)(0x80 | length);
    else frame[1] = 0x80 | 126, frame[2] = (unsigned char)(length >> 8), frame[3] = (unsigned char)length, head = 4;
    memset(frame + head, 0, 4); /* a mask of zeros leaves the payload as it is */
    memcpy(frame + head + 4, payload, length);
    send_all(client, frame, head + 4 + length);
}

/* --- what is in a message --- */

/* What stands behind a key, or NULL. Keys are looked for as they are written in either encoding. */
static const unsigned char *behind(const unsigned char *data, size_t length, const char *key, size_t key_length) {
    const unsigned char *at = memmem(data, length, key, key_length);
    return at ? at + key_length : NULL;
}
#define BEHIND(in_json, in_msgpack) \
    (client->msgpack ? behind(data, length, in_msgpack, sizeof in_msgpack - 1) : behind(data, length, in_json, sizeof in_json - 1))

static double number(const unsigned char *at, const unsigned char *end, bool msgpack) {
    if (!msgpack) return strtod((const char *)at, NULL); /* a payload is followed by a zero */
    if (at >= end) return -1;
    if (*at < 0x80) return *at;
    size_t size = *at == 0xcc ? 1 : *at == 0xcd ? 2 : *at == 0xce ? 4 : *at == 0xcf || *at == 0xcb ? 8 : 0;
    if (!size || at + size >= end) return -1;
    uint64_t value = 0;
    for (size_t i = 1; i <= size; i++) value = value << 8 | at[i];
    double real;
    memcpy(&real, &value, sizeof real);
    return *at == 0xcb ? real : (double)value;
}

/* The text behind a key, as far as it fits. */
static size_t word(char *into, size_t room, const unsigned char *at, const unsigned char *end, bool msgpack) {
    size_t length = 0;
    if (!at) return 0;
    if (msgpack) {
        length = at < end ? *at & 0x1f : 0;
        at++;
    } else {
        at++; /* the quotation mark */
        while (at + length < end && at[length] != '"') length++;
    }
    if (length > room) length = room;
    if (at + length > end) return 0;
    memcpy(into, at, length);
    return length;
}

static int channel(const char *name, size_t length) {
    for (int i = 0; i < channel_count; i++)
        if (!strncmp(channels[i].name, name, length) && !channels[i].name[length]) return i;
    if (channel_count == CHANNELS) return -1;
    memcpy(channels[channel_count].name, name, length);
    return channel_count++;
}

static void note_delay(int64_t us) {
    if (delay_count == delay_room) {
        delay_room = delay_room ? delay_room * 2 : 1 << 20;
        delays_us = realloc(delays_us, delay_room * sizeof *delays_us);
    }
    delays_us[delay_count++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static void on_message(struct client *client, const unsigned char *data, size_t length, int64_t now_us) {
    const unsigned char *end = data + length, *at;
    const unsigned char *count_at = BEHIND("\"update_count\":", "\xac" "update_count");
    if (!count_at) { others++; return; }
    char name[64] = {0};
    size_t used = word(name, 20, BEHIND("\"type\":", "\xa4" "type"), end, client->msgpack);
    name[used++] = ' ';
    used += word(name + used, 20, BEHIND("\"symbol\":", "\xa6" "symbol"), end, client->msgpack);
    if (name[0] == 'c') {
        name[used++] = ' ';
        used += word(name + used, 20, BEHIND("\"interval\":", "\xa8" "interval"), end, client->msgpack);
    }
    int which = channel(name, used);
    if (which < 0) { others++; return; }
    uint32_t count = (uint32_t)number(count_at, end, client->msgpack), stands_for = 1, *last = &client->last[which];
    if ((at = BEHIND("\"conflated\":", "\xa9" "conflated"))) stands_for = (uint32_t)number(at, end, client->msgpack);
    if (*last && count <= *last) {
        repeated++;
        return;
    }
    if (*last && count - *last != stands_for) lost += count - *last > stands_for ? count - *last - stands_for : 1;
    conflated += stands_for - 1;
    *last = count;
    if (count > channels[which].newest) channels[which].newest = count;
    channels[which].stood_for += stands_for;
    delivered++;
    if (name[0] == 'p' && (at = BEHIND("\"close\":", "\xa5" "close"))) {
        int64_t sent_us = (int64_t)(number(at, end, client->msgpack) * 1e6 + 0.5);
        note_delay(((now_us - sent_us) % WRAPS_US + WRAPS_US) % WRAPS_US);
    }
}

/* --- one connection --- */

/* Handle the whole frames of `data`, after which there is room for one byte more; how much of it they are. */
static size_t on_data(struct client *client, unsigned char *data, size_t length, int64_t now_us) {
    size_t done = 0;
    if (client->state == UPGRADING) {
        unsigned char *end = memmem(data, length, "\r\n\r\n", 4);
        if (!end) return 0;
        if (length < 12 || memcmp(data + 9, "101", 3)) {
            char why[80];
            snprintf(why, sizeof why, "the upgrade was answered by %.*s", (int)(length < 40 ? length : 40), data);
            give_up(client, why);
            return length;
        }
        done = (size_t)(end - data) + 4;
        client->state = OPEN;
        opened++, under_way--;
        opening_us[opening_count++] = (uint32_t)(clock_us(CLOCK_MONOTONIC) - client->began_us);
        if (client->msgpack) send_frame(client, 2, binary, binary_length);
        else if (text) send_frame(client, 1, text, strlen(text));
    }
    while (client->state == OPEN && length - done >= 2) {
        unsigned char *frame = data + done, kept;
        uint64_t size = frame[1];
        size_t head = size == 126 ? 4 : size == 127 ? 10 : 2;
        if (length - done < head) break;
        if (head > 2) {
            size = 0;
            for (size_t i = 2; i < head; i++) size = size << 8 | frame[i];
        }
        if (length - done - head < size) break;
        unsigned char *payload = frame + head;
        switch (frame[0] & 15) {
            case 1:
            case 2:
                kept = payload[size], payload[size] = 0;
                on_message(client, payload, size, now_us);
                payload[size] = kept;
                break;
            case 8: {
                char why[160];
                snprintf(why, sizeof why, "closed with %d %.*s", size >= 2 ? payload[0] << 8 | payload[1] : 1005,
                         size > 2 ? (int)size - 2 : 0, payload + 2);
                give_up(client, why);
                return length;
            }
            case 9:
                send_frame(client, 10, payload, size);
        }
        done += head + size;
    }
    return client->state == GONE ? length : done;
}

static void on_readable(struct client *client) {
    static unsigned char buffer[BUFFER + 1];
    while (client->state == UPGRADING || client->state == OPEN) {
        size_t before = client->rest_length;
        if (before) memcpy(buffer, client->rest, before);
        size_t room = BUFFER - before;
        ssize_t got = client->ssl ? SSL_read(client->ssl, buffer + before, (int)room) : recv(client->fd, buffer + before, room, 0);
        if (got <= 0) {
            if (client->ssl ? SSL_get_error(client->ssl, (int)got) == SSL_ERROR_WANT_READ : got < 0 && errno == EAGAIN) return;
            give_up(client, got < 0 ? strerror(errno) : "the server ended the connection");
            return;
        }
        bytes += (uint64_t)got;
        size_t length = before + (size_t)got, done = on_data(client, buffer, length, clock_us(CLOCK_REALTIME));
        if (client->state == GONE) return;
        client->rest_length = length - done;
        if (client->rest_length == BUFFER) { give_up(client, "a frame is too long"); return; }
        if (client->rest_length) {
            client->rest = realloc(client->rest, client->rest_length);
            memcpy(client->rest, buffer + done, client->rest_length);
        } else if (client->rest) {
            free(client->rest);
            client->rest = NULL;
        }
        if (!client->ssl && (size_t)got < room) return; /* there was no more */
    }
}

static void watch(struct client *client, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_MOD, client->fd, &event);
}

static void upgrade(struct client *client) {
    char request[1024];
    const char *encoding = client->msgpack ? "msgpack" : "json";
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n", path, port);
    if (text || client->msgpack)
        length += snprintf(request + length, sizeof request - (size_t)length, "Sec-WebSocket-Protocol: aurex.v1.%s\r\n", encoding);
    length += snprintf(request + length, sizeof request - (size_t)length, "\r\n");
    client->state = UPGRADING;
    watch(client, EPOLLIN);
    send_all(client, request, (size_t)length);
}

static void on_event(struct client *client, uint32_t events) {
    if (client->state == CONNECTING) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) { give_up(client, strerror(error)); return; }
        if (!(events & EPOLLOUT)) return;
        if (!tls) { upgrade(client); return; }
        client->ssl = SSL_new(tls);
        SSL_set_fd(client->ssl, client->fd);
        SSL_set_tlsext_host_name(client->ssl, "localhost");
        client->state = SHAKING_HANDS;
    }
    if (client->state == SHAKING_HANDS) {
        int done = SSL_connect(client->ssl), error = SSL_get_error(client->ssl, done);
        if (done == 1) upgrade(client);
        else if (error == SSL_ERROR_WANT_READ) watch(client, EPOLLIN);
        else if (error == SSL_ERROR_WANT_WRITE) watch(client, EPOLLOUT);
        else give_up(client, "the TLS handshake failed");
        return;
    }
    on_readable(client);
}

static void start(int index) {
    struct client *client = &clients[index];
    int one = 1, small = 16384;
    started++, under_way++;
    client->state = CONNECTING;
    client->msgpack = binary_length && (!text || index % 2);
    client->began_us = clock_us(CLOCK_MONOTONIC);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) { perror("load: socket"); exit(2); }
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (pause_ms) setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001u + ((uint32_t)network << 16) + (uint32_t)index / PER_ADDRESS)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(client->fd, (void *)&from, sizeof from)) { perror("load: bind"); exit(2); }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, client->fd, &event);
    if (connect(client->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) give_up(client, strerror(errno));
}

/* --- the whole --- */

static int by_size(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static void print_quantiles(const char *name, uint32_t *values, size_t count) {
    qsort(values, count, sizeof *values, by_size);
    printf("\"%s\": {\"n\": %zu", name, count);
    if (count)
        printf(", \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"max\": %.3f", values[count / 2] / 1e3, values[count * 9 / 10] / 1e3,
               values[count * 99 / 100] / 1e3, values[count - 1] / 1e3);
    printf("}");
}

static void mark(void) {
    delivered = conflated = lost = repeated = others = bytes = delay_count = 0;
    for (int i = 0; i < channel_count; i++) channels[i].stood_for = 0;
}

static void report(bool whole) {
    uint64_t behind_newest = 0;
    for (int i = 0; i < connections; i++)
        if (clients[i].state == OPEN)
            for (int j = 0; j < channel_count; j++)
                if (clients[i].last[j] && clients[i].last[j] < channels[j].newest) behind_newest++;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"delivered\": %lu, \"conflated\": %lu, \"lost\": %lu, \"repeated\": %lu, \"others\": %lu, \"bytes\": %lu, "
           "\"behind\": %lu, \"connections\": %d, \"cpu_s\": %.3f, \"error\": \"%s\", \"channels\": {",
           delivered, conflated, lost, repeated, others, bytes, behind_newest, opened - lost_connections,
           (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6, first_error);
    for (int i = 0; i < channel_count; i++) printf("%s\"%s\": %lu", i ? ", " : "", channels[i].name, channels[i].stood_for);
    printf("}");
    if (whole) {
        printf(", ");
        print_quantiles("delay_ms", delays_us, delay_count);
    }
    printf("}\n");
    fflush(stdout);
}

/* Answer the lines on the input; false at its end. */
static bool listen_to_input(void) {
    static char lines[256];
    static size_t length;
    ssize_t got = read(0, lines + length, sizeof lines - 1 - length);
    if (got <= 0) return false;
    lines[length += (size_t)got] = 0;
    char *line = lines, *end;
    while ((end = strchr(line, '\n'))) {
        *end = 0;
        if (!strcmp(line, "mark")) {
            mark();
            printf("{}\n");
            fflush(stdout);
        } else if (!strcmp(line, "report")) report(true);
        else if (!strcmp(line, "look")) report(false);
        line = end + 1;
    }
    length -= (size_t)(line - lines);
    memmove(lines, line, length);
    return true;
}

static bool turn(int timeout_ms) {
    struct epoll_event events[512];
    if (pause_ms && opened + failed == connections) usleep((useconds_t)pause_ms * 1000);
    int count = epoll_wait(poller, events, 512, timeout_ms);
    bool go_on = true;
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (!client) go_on = listen_to_input();
        else if (client->state != GONE) on_event(client, events[i].events);
    }
    return go_on;
}

int main(int argc, char **argv) {
    if (argc < 4) { fprintf(stderr, "usage: load PORT PATH CONNECTIONS [tls] [network=N] [at-once=N] [pause-ms=N] [text=STRING] [binary=HEX]\n"); return 2; }
    port = atoi(argv[1]), path = argv[2], connections = atoi(argv[3]);
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "tls")) tls = SSL_CTX_new(TLS_client_method());
        else if (!strncmp(argv[i], "network=", 8)) network = atoi(argv[i] + 8);
        else if (!strncmp(argv[i], "at-once=", 8)) at_once = atoi(argv[i] + 8);
        else if (!strncmp(argv[i], "pause-ms=", 9)) pause_ms = atoi(argv[i] + 9);
        else if (!strncmp(argv[i], "text=", 5)) text = argv[i] + 5;
        else if (!strncmp(argv[i], "binary=", 7)) {
            unsigned byte;
            for (const char *hex = argv[i] + 7; binary_length < sizeof binary && sscanf(hex, "%2x", &byte) == 1; hex += 2)
                binary[binary_length++] = (unsigned char)byte;
        } else { fprintf(stderr, "load: %s is no option\n", argv[i]); return 2; }
    }
    signal(SIGPIPE, SIG_IGN); /* a connection that is gone is no reason to end */
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (tls) {
        /* Nothing is verified: the clients' arithmetic is not what is measured. */
        SSL_CTX_set_verify(tls, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    }
    clients = calloc((size_t)connections, sizeof *clients);
    opening_us = calloc((size_t)connections + 1, sizeof *opening_us);
    poller = epoll_create1(0);
    int64_t began_us = clock_us(CLOCK_MONOTONIC);
    while (opened + failed < connections) {
        while (started < connections && under_way < at_once) start(started);
        turn(100);
    }
    printf("{\"opened\": %d, \"failed\": %d, \"seconds\": %.3f, \"error\": \"%s\", ", opened, failed,
           (double)(clock_us(CLOCK_MONOTONIC) - began_us) / 1e6, first_error);
    print_quantiles("opening_ms", opening_us, opening_count);
    printf("}\n");
    fflush(stdout);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
    while (turn(-1)) continue;
    return 0;
}
