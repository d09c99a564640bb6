// Links between network namespaces for a kernel without netem: every box has a TUN device here, and what leaves a box waits as it would on a
// wire of such a rate and delay before it reaches the box that it is for.
//
//     wire RATE_BITS_PER_SECOND DELAY_MICROSECONDS DEVICE=ADDRESS…
//
// The devices are made where this process runs; whoever started it moves them. Orders come as lines, each is answered by "ok": "delay DEVICE
// MICROSECONDS" for what leaves that box, "cut DEVICE" (nothing leaves or reaches it, and nobody is told) and "mend DEVICE". Ends with its input.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    links_max = 16,
    // A whole segment offload packet and the header that says so (struct virtio_net_hdr, passed through).
    packet_bytes_max = 65536 + 64,
    offload_header_bytes = 10,
    // What a link's queue holds: a switch has no more, and drops.
    queue_bytes_max = 64 << 20,
    // Read from one link before others get their turn.
    burst = 16,
    line_bytes_max = 256,
};

struct packet {
    struct packet *next;
    int64_t due;
    size_t bytes;
    uint8_t data[];
};

struct link {
    char device[IFNAMSIZ];
    uint32_t address;
    int file;
    int is_cut;
    int64_t delay;
    // When the last bit of what was sent is on the wire.
    int64_t free_at;
    size_t queued_bytes;
    struct packet *first, *last;
};

static struct link links[links_max];
static int link_count;
static int64_t bits_per_second;

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void end(const char *what) {
    fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void open_device(struct link *link) {
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    link->file = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (link->file < 0) end("/dev/net/tun");
    strcpy(request.ifr_name, link->device);
    if (ioctl(link->file, TUNSETIFF, &request) < 0) end(link->device);
    // Large segments cross in one piece, as they do over a veth pair.
    if (ioctl(link->file, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) < 0) end("TUNSETOFFLOAD");
}

static struct link *named(const char *device) {
    for (int i = 0; i < link_count; i++) {
        if (strcmp(links[i].device, device) == 0) return &links[i];
    }
    return NULL;
}

static struct link *addressed(uint32_t address) {
    for (int i = 0; i < link_count; i++) {
        if (links[i].address == address) return &links[i];
    }
    return NULL;
}

static void take(struct link *link, const uint8_t *data, size_t bytes) {
    if (link->is_cut || link->queued_bytes + bytes > queue_bytes_max) return;
    struct packet *packet = malloc(sizeof *packet + bytes);
    if (!packet) return;
    int64_t begin = now();
    if (link->free_at > begin) begin = link->free_at;
    link->free_at = begin + (int64_t)bytes * 8 * 1000000000LL / bits_per_second;
    packet->due = link->free_at + link->delay;
    // A wire keeps the order, also when its delay has just become shorter.
    if (link->last && packet->due < link->last->due) packet->due = link->last->due;
    packet->next = NULL;
    packet->bytes = bytes;
    memcpy(packet->data, data, bytes);
    if (link->last) link->last->next = packet;
    else link->first = packet;
    link->last = packet;
    link->queued_bytes += bytes;
}

static void read_from(struct link *link) {
    static uint8_t data[packet_bytes_max];
    for (int i = 0; i < burst; i++) {
        ssize_t bytes = read(link->file, data, sizeof data);
        if (bytes < 0) return;
        take(link, data, (size_t)bytes);
    }
}

static void deliver(const struct packet *packet) {
    const uint8_t *header = packet->data + offload_header_bytes;
    if (packet->bytes < offload_header_bytes + 20 || header[0] >> 4 != 4) return;
    uint32_t address;
    memcpy(&address, header + 16, sizeof address);
    struct link *to = addressed(address);
    // What its box can't take now is lost, as on any wire; TCP sends it again.
    if (to && !to->is_cut && write(to->file, packet->data, packet->bytes) < 0) return;
}

// Gives when the next packet is due, -1 for none.
static int64_t deliver_due(void) {
    int64_t next = -1, time = now();
    for (int i = 0; i < link_count; i++) {
        struct link *link = &links[i];
        while (link->first && link->first->due <= time) {
            struct packet *packet = link->first;
            link->first = packet->next;
            if (!link->first) link->last = NULL;
            link->queued_bytes -= packet->bytes;
            if (!link->is_cut) deliver(packet);
            free(packet);
        }
        if (link->first && (next < 0 || link->first->due < next)) next = link->first->due;
    }
    return next;
}

static void obey(char *line) {
    char word[32], device[IFNAMSIZ];
    long long microseconds = 0;
    int fields = sscanf(line, "%31s %15s %lld", word, device, &microseconds);
    struct link *link = fields >= 2 ? named(device) : NULL;
    int is_known = 1;
    if (!link) is_known = 0;
    else if (strcmp(word, "cut") == 0) link->is_cut = 1;
    else if (strcmp(word, "mend") == 0) link->is_cut = 0;
    else if (strcmp(word, "delay") == 0 && fields == 3 && microseconds >= 0) link->delay = microseconds * 1000;
    else is_known = 0;
    puts(is_known ? "ok" : "what?");
    fflush(stdout);
}

static void read_orders(void) {
    static char lines[line_bytes_max];
    static size_t held;
    ssize_t bytes = read(STDIN_FILENO, lines + held, sizeof lines - 1 - held);
    if (bytes <= 0) exit(0);
    held += (size_t)bytes;
    lines[held] = 0;
    for (char *stop; (stop = strchr(lines, '\n'));) {
        *stop = 0;
        obey(lines);
        held -= (size_t)(stop + 1 - lines);
        memmove(lines, stop + 1, held + 1);
    }
    if (held == sizeof lines - 1) held = 0;
}

int main(int count, char **words) {
    if (count < 4 || count - 3 > links_max) {
        fprintf(stderr, "usage: wire RATE_BITS_PER_SECOND DELAY_MICROSECONDS DEVICE=ADDRESS...\n");
        return 2;
    }
    bits_per_second = atoll(words[1]);
    if (bits_per_second <= 0) return 2;
    struct pollfd waits[links_max + 1] = {{.fd = STDIN_FILENO, .events = POLLIN}};
    for (int i = 3; i < count; i++) {
        struct link *link = &links[link_count++];
        char address[64];
        if (sscanf(words[i], "%15[^=]=%63s", link->device, address) != 2 || inet_pton(AF_INET, address, &link->address) != 1) return 2;
        link->delay = atoll(words[2]) * 1000;
        open_device(link);
        waits[link_count] = (struct pollfd){.fd = link->file, .events = POLLIN};
    }
    // A wire waits for nobody's time slice; where that is not allowed its delay varies more.
    struct sched_param first = {.sched_priority = 1};
    sched_setscheduler(0, SCHED_FIFO, &first);
    prctl(PR_SET_TIMERSLACK, 1000UL);
    puts("ok");
    fflush(stdout);
    for (;;) {
        int64_t next = deliver_due(), wait = next < 0 ? 0 : next - now();
        if (wait < 0) wait = 0;
        struct timespec timeout = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
        if (ppoll(waits, (nfds_t)link_count + 1, next < 0 ? NULL : &timeout, NULL) < 0 && errno != EINTR) end("ppoll");
        if (waits[0].revents) read_orders();
        for (int i = 0; i < link_count; i++) {
            if (waits[i + 1].revents & POLLIN) read_from(&links[i]);
        }
    }
}
