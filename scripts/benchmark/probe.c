/* A UDP generator, counter, echo and ping-pong for scripts/bench. It moves packets in batches, so that the tool is not
 * what is measured.
 *
 *     probe flood    ADDRESS PORT SIZE SECONDS        sends as fast as it can; prints packets and seconds
 *     probe count    ADDRESS PORT                     counts until a second after the last packet; prints packets and seconds
 *     probe pingpong ADDRESS PORT SIZE RATE SECONDS   one at a time; prints packets, answers, and p50 and p99 in microseconds
 *     probe echo     ADDRESS PORT                     returns everything, until it is killed
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { BATCH = 64, LARGEST = 2048, BUFFER = 8 << 20 };

static char payload[BATCH][LARGEST];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void sleep_until(double moment) {
    struct timespec until = {.tv_sec = moment, .tv_nsec = (moment - (time_t)moment) * 1e9};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {
    }
}

static int udp_socket(int (*join)(int, const struct sockaddr *, socklen_t), const char *address, const char *port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    int buffer = BUFFER, udp = socket(AF_INET, SOCK_DGRAM, 0);
    if (udp < 0 || inet_pton(AF_INET, address, &name.sin_addr) != 1)
        fail(address);
    if (setsockopt(udp, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer) || setsockopt(udp, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer))
        fail("setsockopt");
    if (join(udp, (struct sockaddr *)&name, sizeof name))
        fail(address);
    return udp;
}

static void patience(int udp, int milliseconds) {
    struct timeval most = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    if (setsockopt(udp, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most))
        fail("setsockopt");
}

static size_t checked_size(const char *text) {
    size_t size = atoi(text);
    if (size < sizeof(uint32_t) || size > LARGEST) {
        fprintf(stderr, "size %s is not within %zu to %d\n", text, sizeof(uint32_t), LARGEST);
        exit(2);
    }
    return size;
}

static void prepare(struct mmsghdr *messages, struct iovec *pieces, size_t size) {
    memset(messages, 0, BATCH * sizeof *messages);
    for (int i = 0; i < BATCH; i++) {
        pieces[i] = (struct iovec){.iov_base = payload[i], .iov_len = size};
        messages[i].msg_hdr.msg_iov = &pieces[i];
        messages[i].msg_hdr.msg_iovlen = 1;
    }
}

static void flood(int udp, size_t size, double duration) {
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    double began = seconds(), now;
    uint64_t packets = 0;
    prepare(messages, pieces, size);
    while ((now = seconds()) < began + duration) {
        int sent = sendmmsg(udp, messages, BATCH, 0);
        if (sent > 0)
            packets += sent;
        else if (errno != ECONNREFUSED && errno != ENOBUFS && errno != EAGAIN)
            fail("sendmmsg");
    }
    printf("%ju %.6f\n", (uintmax_t)packets, now - began);
}

static void count(int udp) {
    struct mmsghdr messages[BATCH];
    struct iovec pieces[BATCH];
    double first = 0, last = 0;
    uint64_t packets = 0;
    prepare(messages, pieces, LARGEST);
    patience(udp, 10000);
    for (;;) {
        int received = recvmmsg(udp, messages, BATCH, MSG_WAITFORONE, NULL);
        if (received < 0 && errno == EINTR)
            continue;
        if (received < 0)
            break;
        last = seconds();
        if (packets == 0) {
            first = last;
            patience(udp, 1000);
        }
        packets += received;
    }
    printf("%ju %.6f\n", (uintmax_t)packets, last - first);
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void pingpong(int udp, size_t size, double rate, double duration) {
    uint32_t most = rate * duration, answered = 0, sent;
    float *times = calloc(most + 1, sizeof *times);
    double began = seconds();
    if (!times)
        fail("calloc");
    patience(udp, 1000);
    for (sent = 0; sent < most && seconds() < began + duration; sent++) {
        sleep_until(began + sent / rate);
        double left = seconds();
        memcpy(payload[0], &sent, sizeof sent);
        if (send(udp, payload[0], size, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
            fail("send");
        uint32_t number = ~sent;
        /* An answer that comes after its second is up must not pass for the next one. */
        while (number != sent && recv(udp, payload[1], LARGEST, 0) >= (ssize_t)sizeof number)
            memcpy(&number, payload[1], sizeof number);
        if (number == sent)
            times[answered++] = (seconds() - left) * 1e6;
    }
    qsort(times, answered, sizeof *times, ascending);
    printf("%u %u %.1f %.1f\n", sent, answered, answered ? times[answered / 2] : -1, answered ? times[answered * 99 / 100] : -1);
    free(times);
}

static void echo(int udp) {
    struct sockaddr_in from;
    for (;;) {
        socklen_t length = sizeof from;
        ssize_t size = recvfrom(udp, payload[0], LARGEST, 0, (struct sockaddr *)&from, &length);
        if (size >= 0)
            sendto(udp, payload[0], size, 0, (struct sockaddr *)&from, length);
    }
}

int main(int count_of, char **words) {
    const char *what = count_of > 3 ? words[1] : "";
    if (!strcmp(what, "flood") && count_of == 6)
        flood(udp_socket(connect, words[2], words[3]), checked_size(words[4]), atof(words[5]));
    else if (!strcmp(what, "count") && count_of == 4)
        count(udp_socket(bind, words[2], words[3]));
    else if (!strcmp(what, "pingpong") && count_of == 7)
        pingpong(udp_socket(connect, words[2], words[3]), checked_size(words[4]), atof(words[5]), atof(words[6]));
    else if (!strcmp(what, "echo") && count_of == 4)
        echo(udp_socket(bind, words[2], words[3]));
    else {
        fprintf(stderr, "usage: probe flood|count|pingpong|echo ADDRESS PORT ...\n");
        return 2;
    }
    return 0;
}
