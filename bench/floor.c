/*
 * The floor: what it costs the kernel to hand a record to so many sockets, and nothing else. One thread, TCP_NODELAY, one
 * write() of a prebuilt frame for each socket and wake-up. What a server costs more than this is its own.
 *
 *   floor SUBSCRIBERS RATE SECONDS SIZE COALESCE [SHAPE [PORT]]
 *
 * RATE is wake-ups a second, SIZE the bytes of a record, COALESCE how many records one write() carries. SHAPE:
 *   push   a WebSocket text frame for each record (default)
 *   blast  RATE * SECONDS writes as fast as the reader takes them
 *
 * Prints "listening on http://127.0.0.1:PORT"; starts when all subscribers have sent their request heads, which are not
 * answered; ends when the last subscriber has gone. The records are those of `fourfold bench`: {"b":"SEQUENCE,INTENDED;xxx"}, the time in microseconds of
 * the monotonic clock.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  SUBSCRIBERS_MAX = 100000,
  SECONDS_MAX = 600,
  RECORD_BYTES_MIN = 48, /* Below it the numbers do not fit. */
  RECORD_BYTES_MAX = 1 << 20,
  COALESCE_MAX = 64,
  HEAD_BYTES_MAX = 4096,
  FRAME_HEAD_BYTES_MAX = 10,
  WAIT_SECONDS_MAX = 60, /* For a subscriber: to connect, to ask, to take a frame. */
  START_MS = 500, /* From the last request to the first record: so that all subscribers read. */
};

static void fail(const char *what, ...) {
  va_list rest;
  va_start(rest, what);
  vfprintf(stderr, what, rest);
  va_end(rest);
  fprintf(stderr, errno ? ": %s\n" : "\n", strerror(errno));
  exit(1);
}

static long number(const char *text, const char *name, long min, long max) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (errno || *end || value < min || value > max) {
    errno = 0;
    fail("%s is a number from %ld to %ld", name, min, max);
  }
  return value;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns) {
  struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
  }
}

/* Reads one request head; what may lie behind its blank line is not looked for, as nobody sends it. */
static void read_head(int socket, char *head) {
  size_t have = 0;
  do {
    ssize_t got = read(socket, head + have, HEAD_BYTES_MAX - 1 - have);
    if (got <= 0) fail("a subscriber went before its request was whole");
    have += (size_t)got;
    head[have] = 0;
    if (have == HEAD_BYTES_MAX - 1) {
      errno = 0;
      fail("a request head of over %d bytes", HEAD_BYTES_MAX);
    }
  } while (!strstr(head, "\r\n\r\n"));
}

static void write_all(int socket, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t took = write(socket, bytes, length);
    if (took <= 0) fail("a subscriber took no more");
    bytes += took;
    length -= (size_t)took;
  }
}

static size_t write_record(char *out, uint64_t sequence, uint64_t intended_ns, size_t size) {
  int head = sprintf(out, "{\"b\":\"%llu,%llu;", (unsigned long long)sequence, (unsigned long long)(intended_ns / 1000));
  memset(out + head, 'x', size - (size_t)head - 2);
  memcpy(out + size - 2, "\"}", 2);
  return size;
}

static size_t write_frame_head(char *out, size_t size) {
  unsigned char *o = (unsigned char *)out;
  o[0] = 0x81;
  if (size < 126) {
    o[1] = (unsigned char)size;
    return 2;
  }
  if (size < 65536) {
    o[1] = 126;
    o[2] = (unsigned char)(size >> 8);
    o[3] = (unsigned char)size;
    return 4;
  }
  o[1] = 127;
  for (int byte = 0; byte < 8; byte++) o[2 + byte] = (unsigned char)((uint64_t)size >> (56 - 8 * byte));
  return 10;
}

int main(int count, char **args) {
  if (count < 6 || count > 8) {
    errno = 0;
    fail("usage: floor SUBSCRIBERS RATE SECONDS SIZE COALESCE [push|blast [PORT]]");
  }
  const size_t subscribers = (size_t)number(args[1], "SUBSCRIBERS", 1, SUBSCRIBERS_MAX);
  const double rate = strtod(args[2], NULL);
  const uint64_t seconds = (uint64_t)number(args[3], "SECONDS", 1, SECONDS_MAX);
  const size_t size = (size_t)number(args[4], "SIZE", RECORD_BYTES_MIN, RECORD_BYTES_MAX);
  const uint64_t coalesce = (uint64_t)number(args[5], "COALESCE", 1, COALESCE_MAX);
  const char *shape = count > 6 ? args[6] : "push";
  const long port = count > 7 ? number(args[7], "PORT", 0, 65535) : 0;
  const bool is_blast = !strcmp(shape, "blast");
  errno = 0;
  if (!(rate >= 0.001 && rate <= 1e6)) fail("RATE is a number from 0.001 to 1000000");
  if (!is_blast && strcmp(shape, "push")) fail("SHAPE is push or blast");

  struct rlimit files = {0, 0};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  const int one = 1;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t address_bytes = sizeof address;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 65535)) fail("cannot listen");
  getsockname(listener, (struct sockaddr *)&address, &address_bytes);
  printf("listening on http://127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);

  int *sockets = calloc(subscribers, sizeof *sockets);
  char *frames = malloc(coalesce * (size + FRAME_HEAD_BYTES_MAX));
  if (!sockets || !frames) fail("no memory");
  char head[HEAD_BYTES_MAX];
  const struct timeval wait = {WAIT_SECONDS_MAX, 0};
  setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  for (size_t n = 0; n < subscribers; n++) {
    sockets[n] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (sockets[n] < 0) fail("subscriber %zu did not come", n);
    setsockopt(sockets[n], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(sockets[n], SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(sockets[n], SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    read_head(sockets[n], head);
  }

  const uint64_t start = now_ns() + START_MS * 1000000ull;
  const uint64_t wakes = (uint64_t)(rate * (double)seconds + 0.5);
  for (uint64_t wake = 0, sequence = 0; wake < wakes; wake++, sequence += coalesce) {
    const uint64_t intended = is_blast ? now_ns() : start + (uint64_t)((double)wake * 1e9 / rate);
    char *end = frames;
    for (uint64_t n = 0; n < coalesce; n++) {
      end += write_frame_head(end, size);
      end += write_record(end, sequence + n, intended, size);
    }
    if (!is_blast) sleep_until(intended);
    for (size_t n = 0; n < subscribers; n++) write_all(sockets[n], frames, (size_t)(end - frames));
  }
  if (is_blast) return 0;

  /* Until the subscribers have gone: they may still read. */
  for (size_t n = 0; n < subscribers; n++) {
    while (read(sockets[n], head, sizeof head) > 0) {
    }
  }
  return 0;
}
