/*
 * A V4L2 capture device that is not there: an LD_PRELOAD library that answers open, ioctl, poll, select and close for
 * one path as a driver would, so that capture is tested without hardware, kernel module or privileges.
 *
 * The descriptor a program gets is a memfd that holds the buffers, so mmap needs no interposing: the kernel maps it at
 * the offsets that VIDIOC_QUERYBUF names. A thread makes one picture per frame period and puts it into the oldest
 * queued buffer; where none is queued, the picture is lost and `sequence` shows it, as with hardware. Each open has
 * buffers and a thread of its own; what the "cable" carries (settings, picture counter) is common to the process.
 *
 * Environment:
 *   V4L2_EMULATOR_DEVICE    path of the device, e.g. /dev/video42
 *   V4L2_EMULATOR_MODES     FOURCC:WxH@FPS[/FPS...] separated by commas; WxH-WxH and FPS-FPS are ranges
 *   V4L2_EMULATOR_SETTINGS  the settings below as KEY=VALUE, separated by commas
 *   V4L2_EMULATOR_CONTROL   a file of KEY=VALUE lines, read again whenever it changes: faults while running
 *   V4L2_EMULATOR_JPEG      for MJPG: a file of JPEG pictures one behind the other, played in a loop; read by open
 *
 * Settings, all 0 or unset at first:
 *   unplugged=1   open fails with ENODEV, all else too     stalled=1     no pictures come
 *   busy=1        S_FMT and REQBUFS fail with EBUSY        denied=1      open fails with EACCES
 *   output=1      not a capture device                     nosignal=1    no pictures; the input's status says why
 *   error_every=N every Nth buffer has the error flag      lose_every=N  every Nth picture is lost (gap in sequence)
 *   short_every=N every Nth buffer is half empty           garbage_every=N every Nth buffer is noise
 *   clock=realtime|zero|late  timestamps of another clock, none, or ten seconds old; default monotonic
 *   fps=N         real rate, whatever was asked            size=WxH      the signal changes: event, then only this size
 *   colorspace=N ycbcr_enc=N quantization=N                as VIDIOC_G_FMT is to report them
 *
 * The picture: grey, with four rows of sixteen blocks of 16 pixels at the top left, white for 1: two rows hold the
 * picture's number, two the low 32 bits of its due time in monotonic milliseconds, most significant bit first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEVICES 8
#define MAX_BUFFERS 32
#define MAX_MODES 64
#define MAX_RATES 8
#define BLOCK 16

struct mode {
    uint32_t fourcc, width, height, max_width, max_height; /* max_width 0: just this size */
    int rates, range;                                      /* range: rate[0] to rate[1] */
    uint32_t rate[MAX_RATES];
};

struct settings {
    int unplugged, stalled, busy, denied, output, nosignal;
    int error_every, lose_every, short_every, garbage_every, fps;
    int colorspace, ycbcr_enc, quantization;
    uint32_t width, height;
    char clock[16];
};

struct device {
    int fd, ready, events; /* fd: memfd; ready: eventfd, one count per filled buffer; events: likewise per event */
    int nonblocking, streaming, subscribed, buffers, alive;
    uint32_t queued[MAX_BUFFERS], done[MAX_BUFFERS]; /* first in, first out */
    int queued_count, done_count;
    struct v4l2_buffer buffer[MAX_BUFFERS];
    struct v4l2_pix_format format;
    struct v4l2_fract period;
    size_t slot_bytes;
    uint8_t *memory, *blank;
    uint32_t sequence, seen_width, seen_height;
    pthread_t thread;
};

static int (*real_open)(const char *, int, ...), (*real_close)(int), (*real_poll)(struct pollfd *, nfds_t, int);
static int (*real_ioctl)(int, unsigned long, ...), (*real_openat)(int, const char *, int, ...);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct device *devices[MAX_DEVICES];
static struct mode modes[MAX_MODES];
static int mode_count;
static struct settings settings;
static const char *device_path, *control_path;
static struct timespec control_time;
static uint8_t *jpeg;
static size_t jpeg_bytes, jpeg_at;
static uint32_t picture_number;

static uint64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

/* Settings */

static void set(const char *text) {
    char key[32], value[32];
    static const struct { const char *name; int *place; } numbers[] = {
        {"unplugged", &settings.unplugged}, {"stalled", &settings.stalled}, {"busy", &settings.busy},
        {"denied", &settings.denied}, {"output", &settings.output}, {"nosignal", &settings.nosignal},
        {"error_every", &settings.error_every}, {"lose_every", &settings.lose_every},
        {"short_every", &settings.short_every}, {"garbage_every", &settings.garbage_every}, {"fps", &settings.fps},
        {"colorspace", &settings.colorspace}, {"ycbcr_enc", &settings.ycbcr_enc},
        {"quantization", &settings.quantization},
    };
    if (sscanf(text, " %31[a-z_]=%31s", key, value) != 2)
        return;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].name))
            *numbers[i].place = atoi(value);
    if (!strcmp(key, "clock"))
        snprintf(settings.clock, sizeof settings.clock, "%.15s", value);
    if (!strcmp(key, "size"))
        sscanf(value, "%ux%u", &settings.width, &settings.height);
}

static void set_all(const char *text, const char *separators) {
    char *copy = strdup(text ? text : ""), *rest = copy, *part;
    while ((part = strsep(&rest, separators)))
        set(part);
    free(copy);
}

/* Call with the lock held. The file is written beside and renamed by the test, so it is never half read. */
static void read_control(void) {
    struct stat status;
    char text[4096];
    if (!control_path || stat(control_path, &status) ||
        (status.st_mtim.tv_sec == control_time.tv_sec && status.st_mtim.tv_nsec == control_time.tv_nsec))
        return;
    control_time = status.st_mtim;
    int fd = real_open(control_path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        real_close(fd);
    if (bytes < 0)
        return;
    text[bytes] = 0;
    set_all(text, "\n");
}

static void add_mode(const char *text) {
    struct mode mode = {0};
    char fourcc[5], rates[64] = "";
    int used = 0;
    if (mode_count == MAX_MODES || sscanf(text, "%4[^:]:%ux%u%n", fourcc, &mode.width, &mode.height, &used) != 3)
        return;
    text += used;
    if (*text == '-' && sscanf(text, "-%ux%u%n", &mode.max_width, &mode.max_height, &used) == 2)
        text += used;
    sscanf(text, "@%63s", rates);
    mode.range = strchr(rates, '-') != NULL;
    char *rest = rates, *rate;
    while ((rate = strsep(&rest, "/-")) && mode.rates < MAX_RATES)
        mode.rate[mode.rates++] = atoi(rate);
    for (int i = 0; i < 4; i++)
        mode.fourcc |= (uint32_t)(i < (int)strlen(fourcc) ? fourcc[i] : ' ') << 8 * i;
    modes[mode_count++] = mode;
}

/* Read anew by every open, so that a test can change what the device shows. Call with the lock held. */
static void load_jpeg(void) {
    free(jpeg);
    jpeg = NULL;
    jpeg_bytes = jpeg_at = 0;
    const char *path = getenv("V4L2_EMULATOR_JPEG");
    struct stat status;
    int fd = path ? real_open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &status))
        return;
    jpeg = malloc(status.st_size);
    jpeg_bytes = jpeg && read(fd, jpeg, status.st_size) == status.st_size ? status.st_size : 0;
    real_close(fd);
}

static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_openat = dlsym(RTLD_NEXT, "openat");
    real_close = dlsym(RTLD_NEXT, "close");
    real_poll = dlsym(RTLD_NEXT, "poll");
    real_ioctl = dlsym(RTLD_NEXT, "ioctl");
    device_path = getenv("V4L2_EMULATOR_DEVICE");
    control_path = getenv("V4L2_EMULATOR_CONTROL");
    const char *list = getenv("V4L2_EMULATOR_MODES");
    char *copy = strdup(list ? list : "YUYV:640x480@30"), *rest = copy, *part;
    while ((part = strsep(&rest, ",")))
        add_mode(part);
    free(copy);
    set_all(getenv("V4L2_EMULATOR_SETTINGS"), ",");
}

static struct device *find(int fd) {
    for (int i = 0; fd >= 0 && i < MAX_DEVICES; i++)
        if (devices[i] && devices[i]->fd == fd)
            return devices[i];
    return NULL;
}

/* Pictures */

static void block(const struct v4l2_pix_format *format, uint8_t *out, int column, int row, int white) {
    for (int y = row * BLOCK; y < (row + 1) * BLOCK && y < (int)format->height; y++)
        for (int x = column * BLOCK; x < (column + 1) * BLOCK && x < (int)format->width; x++) {
            uint8_t *line = out + (size_t)y * format->bytesperline;
            switch (format->pixelformat) {
            case V4L2_PIX_FMT_YUYV: line[2 * x] = white ? 235 : 16; break;
            case V4L2_PIX_FMT_UYVY: line[2 * x + 1] = white ? 235 : 16; break;
            case V4L2_PIX_FMT_BGR24:
            case V4L2_PIX_FMT_RGB24: memset(line + 3 * x, white ? 255 : 0, 3); break;
            default: line[x] = white ? 235 : 16;
            }
        }
}

static size_t paint(struct device *device, uint8_t *out, uint32_t number, uint32_t due_ms) {
    const struct v4l2_pix_format *format = &device->format;
    if (format->pixelformat == V4L2_PIX_FMT_MJPEG) {
        size_t begin = jpeg_at, end = begin + 2;
        while (end + 1 < jpeg_bytes && !(jpeg[end - 2] == 0xff && jpeg[end - 1] == 0xd9))
            end++;
        end = end + 1 >= jpeg_bytes ? jpeg_bytes : end;
        size_t bytes = jpeg_bytes ? end - begin : 0;
        bytes = bytes < device->slot_bytes ? bytes : device->slot_bytes;
        if (bytes)
            memcpy(out, jpeg + begin, bytes);
        jpeg_at = end < jpeg_bytes ? end : 0;
        return bytes;
    }
    memcpy(out, device->blank, format->sizeimage);
    for (int bit = 0; bit < 32; bit++) {
        block(format, out, bit % 16, bit / 16, number >> (31 - bit) & 1);
        block(format, out, bit % 16, 2 + bit / 16, due_ms >> (31 - bit) & 1);
    }
    return format->sizeimage;
}

static void stamp(struct v4l2_buffer *buffer, uint64_t due_ns) {
    uint64_t ns = due_ns;
    buffer->flags &= ~V4L2_BUF_FLAG_TIMESTAMP_MASK;
    if (!strcmp(settings.clock, "zero"))
        ns = 0;
    else if (!strcmp(settings.clock, "realtime"))
        ns = now_ns(CLOCK_REALTIME);
    else
        buffer->flags |= V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    if (!strcmp(settings.clock, "late"))
        ns -= 10000000000u;
    buffer->timestamp.tv_sec = ns / 1000000000u;
    buffer->timestamp.tv_usec = ns / 1000 % 1000000;
}

static int every(int n) { return n > 0 && picture_number % n == (uint32_t)n - 1; }

/* One frame period has passed. Call with the lock held. */
static void make_picture(struct device *device, uint64_t due_ns) {
    uint64_t one = 1;
    picture_number++;
    if (settings.width && (settings.width != device->seen_width || settings.height != device->seen_height)) {
        device->seen_width = settings.width;
        device->seen_height = settings.height;
        if (device->subscribed && write(device->events, &one, sizeof one) < 0)
            abort();
    }
    int away = settings.width && (settings.width != device->format.width || settings.height != device->format.height);
    if (settings.unplugged || settings.stalled || settings.nosignal || away || !device->streaming)
        return;
    uint32_t sequence = device->sequence++;
    if (!device->queued_count || every(settings.lose_every))
        return;
    uint32_t index = device->queued[0];
    memmove(device->queued, device->queued + 1, --device->queued_count * sizeof *device->queued);
    struct v4l2_buffer *buffer = &device->buffer[index];
    uint8_t *out = device->memory + index * device->slot_bytes;
    buffer->bytesused = paint(device, out, picture_number, due_ns / 1000000);
    buffer->sequence = sequence;
    buffer->field = V4L2_FIELD_NONE;
    buffer->flags &= ~(V4L2_BUF_FLAG_QUEUED | V4L2_BUF_FLAG_ERROR);
    buffer->flags |= V4L2_BUF_FLAG_DONE;
    stamp(buffer, due_ns);
    if (every(settings.error_every))
        buffer->flags |= V4L2_BUF_FLAG_ERROR;
    if (every(settings.short_every))
        buffer->bytesused /= 2;
    if (every(settings.garbage_every))
        for (uint32_t i = 0; i < buffer->bytesused; i++)
            out[i] = (uint8_t)(i * 2654435761u >> 13);
    device->done[device->done_count++] = index;
    if (write(device->ready, &one, sizeof one) < 0)
        abort();
}

static void *produce(void *argument) {
    struct device *device = argument;
    uint64_t due_ns = now_ns(CLOCK_MONOTONIC);
    pthread_mutex_lock(&lock);
    while (device->alive) {
        uint64_t period_ns = 1000000000u * (uint64_t)device->period.numerator / device->period.denominator;
        due_ns += settings.fps > 0 ? 1000000000u / settings.fps : period_ns;
        struct timespec due = {due_ns / 1000000000u, due_ns % 1000000000u};
        pthread_mutex_unlock(&lock);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
            ;
        pthread_mutex_lock(&lock);
        read_control();
        make_picture(device, due_ns);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void stop(struct device *device) { /* Call with the lock held; it is let go meanwhile. */
    if (!device->alive)
        return;
    device->alive = 0;
    pthread_mutex_unlock(&lock);
    pthread_join(device->thread, NULL);
    pthread_mutex_lock(&lock);
}

/* Formats */

static int fits(const struct mode *mode) { /* Whether the signal on the cable leaves this mode. */
    if (!settings.width)
        return 1;
    if (mode->max_width)
        return settings.width <= mode->max_width && settings.height <= mode->max_height;
    return settings.width == mode->width && settings.height == mode->height;
}

static const struct mode *nearest(uint32_t fourcc, uint32_t width, uint32_t height) {
    const struct mode *best = NULL;
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < mode_count; i++) {
        int64_t dx = (int64_t)modes[i].width - width, dy = (int64_t)modes[i].height - height;
        uint64_t far = (modes[i].fourcc != fourcc) * (1ull << 40) + !fits(&modes[i]) * (1ull << 41) + dx * dx + dy * dy;
        if (far < least)
            least = far, best = &modes[i];
    }
    return best;
}

static void fit(struct v4l2_pix_format *format) {
    const struct mode *mode = nearest(format->pixelformat, format->width, format->height);
    uint32_t width = mode->width, height = mode->height;
    if (mode->max_width) { /* a range: what was asked, on a grid of 16 x 2 */
        width = (format->width < width ? width : format->width > mode->max_width ? mode->max_width : format->width) / 16 * 16;
        height = (format->height < height ? height : format->height > mode->max_height ? mode->max_height : format->height) / 2 * 2;
    }
    if (settings.width && fits(mode))
        width = settings.width, height = settings.height;
    *format = (struct v4l2_pix_format){.width = width, .height = height, .pixelformat = mode->fourcc,
        .field = V4L2_FIELD_NONE, .colorspace = settings.colorspace ? settings.colorspace : V4L2_COLORSPACE_SRGB,
        .priv = V4L2_PIX_FMT_PRIV_MAGIC, .ycbcr_enc = settings.ycbcr_enc, .quantization = settings.quantization};
    switch (mode->fourcc) {
    case V4L2_PIX_FMT_YUYV:
    case V4L2_PIX_FMT_UYVY: format->bytesperline = 2 * width; break;
    case V4L2_PIX_FMT_BGR24:
    case V4L2_PIX_FMT_RGB24: format->bytesperline = 3 * width; break;
    case V4L2_PIX_FMT_GREY:
    case V4L2_PIX_FMT_NV12:
    case V4L2_PIX_FMT_YUV420: format->bytesperline = width; break;
    default: format->bytesperline = 0;
    }
    int planar = mode->fourcc == V4L2_PIX_FMT_NV12 || mode->fourcc == V4L2_PIX_FMT_YUV420;
    format->sizeimage = format->bytesperline ? format->bytesperline * height * (planar ? 3 : 2) / 2 : 2 * width * height;
}

static int enum_formats(struct v4l2_fmtdesc *description) {
    uint32_t seen = 0;
    for (int i = 0; i < mode_count; i++) {
        int before = 0;
        for (int j = 0; j < i; j++)
            before |= modes[j].fourcc == modes[i].fourcc;
        if (before || seen++ != description->index)
            continue;
        description->pixelformat = modes[i].fourcc;
        description->flags = modes[i].fourcc == V4L2_PIX_FMT_MJPEG ? V4L2_FMT_FLAG_COMPRESSED : 0;
        snprintf((char *)description->description, 32, "emulated %.4s", (const char *)&modes[i].fourcc);
        return 0;
    }
    return EINVAL;
}

static int enum_sizes(struct v4l2_frmsizeenum *size) {
    uint32_t seen = 0;
    for (int i = 0; i < mode_count; i++) {
        if (modes[i].fourcc != size->pixel_format || !fits(&modes[i]) || seen++ != size->index)
            continue;
        if (modes[i].max_width && !settings.width) {
            size->type = V4L2_FRMSIZE_TYPE_STEPWISE;
            size->stepwise = (struct v4l2_frmsize_stepwise){modes[i].width, modes[i].max_width, 16, modes[i].height,
                                                            modes[i].max_height, 2};
        } else {
            size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
            size->discrete.width = settings.width ? settings.width : modes[i].width;
            size->discrete.height = settings.width ? settings.height : modes[i].height;
        }
        return 0;
    }
    return EINVAL;
}

static int enum_intervals(struct v4l2_frmivalenum *interval) {
    for (int i = 0; i < mode_count; i++) {
        const struct mode *mode = &modes[i];
        int within = mode->max_width ? interval->width <= mode->max_width && interval->height <= mode->max_height
                                     : interval->width == mode->width && interval->height == mode->height;
        if (mode->fourcc != interval->pixel_format || !within)
            continue;
        if (mode->range) {
            if (interval->index)
                return EINVAL;
            interval->type = V4L2_FRMIVAL_TYPE_CONTINUOUS;
            interval->stepwise.min = (struct v4l2_fract){1, mode->rate[1]};
            interval->stepwise.max = (struct v4l2_fract){1, mode->rate[0]};
            interval->stepwise.step = (struct v4l2_fract){1, 1};
            return 0;
        }
        if (interval->index >= (uint32_t)mode->rates)
            return EINVAL;
        interval->type = V4L2_FRMIVAL_TYPE_DISCRETE;
        interval->discrete = (struct v4l2_fract){1, mode->rate[interval->index]};
        return 0;
    }
    return EINVAL;
}

static int set_period(struct device *device, struct v4l2_streamparm *parameters) {
    struct v4l2_fract *asked = &parameters->parm.capture.timeperframe;
    const struct mode *mode = nearest(device->format.pixelformat, device->format.width, device->format.height);
    double wanted = asked->numerator && asked->denominator ? (double)asked->denominator / asked->numerator : mode->rate[0];
    double least = 1e9;
    uint32_t best = mode->rate[0];
    for (int i = 0; i < mode->rates; i++) {
        double far = wanted > mode->rate[i] ? wanted - mode->rate[i] : mode->rate[i] - wanted;
        if (far < least)
            least = far, best = mode->rate[i];
    }
    if (mode->range && wanted >= mode->rate[0] && wanted <= mode->rate[1])
        device->period = *asked;
    else
        device->period = (struct v4l2_fract){1, best};
    *asked = device->period;
    parameters->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
    return 0;
}

/* Buffers */

static int request_buffers(struct device *device, struct v4l2_requestbuffers *request) {
    if (settings.busy || device->streaming)
        return EBUSY;
    if (request->memory != V4L2_MEMORY_MMAP || request->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
        return EINVAL;
    if (device->memory)
        munmap(device->memory, device->buffers * device->slot_bytes);
    device->memory = NULL;
    free(device->blank);
    device->blank = NULL;
    request->count = request->count > MAX_BUFFERS ? MAX_BUFFERS : request->count;
    device->buffers = request->count;
    device->queued_count = device->done_count = 0;
    if (!request->count)
        return 0;
    device->slot_bytes = (device->format.sizeimage + 4095) / 4096 * 4096;
    if (ftruncate(device->fd, request->count * device->slot_bytes))
        return ENOMEM;
    device->memory = mmap(NULL, request->count * device->slot_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, device->fd, 0);
    device->blank = malloc(device->slot_bytes);
    memset(device->blank, 128, device->slot_bytes);
    for (uint32_t i = 0; i < request->count; i++)
        device->buffer[i] = (struct v4l2_buffer){.index = i, .type = request->type, .memory = V4L2_MEMORY_MMAP,
            .m.offset = i * device->slot_bytes, .length = device->format.sizeimage, .flags = V4L2_BUF_FLAG_MAPPED};
    return 0;
}

static int dequeue(struct device *device, struct v4l2_buffer *buffer) { /* The lock is held, and let go meanwhile. */
    while (!device->done_count) {
        if (settings.unplugged)
            return ENODEV;
        if (!device->streaming)
            return EINVAL;
        if (device->nonblocking)
            return EAGAIN;
        struct pollfd ready = {device->ready, POLLIN, 0};
        pthread_mutex_unlock(&lock);
        real_poll(&ready, 1, 50);
        pthread_mutex_lock(&lock);
    }
    uint64_t count;
    if (read(device->ready, &count, sizeof count) < 0)
        return EAGAIN;
    uint32_t index = device->done[0];
    memmove(device->done, device->done + 1, --device->done_count * sizeof *device->done);
    device->buffer[index].flags &= ~V4L2_BUF_FLAG_DONE;
    *buffer = device->buffer[index];
    return 0;
}

static int enqueue(struct device *device, struct v4l2_buffer *buffer) {
    if (buffer->index >= (uint32_t)device->buffers || device->buffer[buffer->index].flags & V4L2_BUF_FLAG_QUEUED)
        return EINVAL;
    device->buffer[buffer->index].flags |= V4L2_BUF_FLAG_QUEUED;
    device->queued[device->queued_count++] = buffer->index;
    return 0;
}

static int stream(struct device *device, int on) {
    uint64_t count;
    if (on && !device->buffers)
        return EINVAL;
    device->streaming = on;
    if (on && !device->alive) {
        device->sequence = 0;
        device->seen_width = device->format.width;
        device->seen_height = device->format.height;
        device->alive = 1;
        return pthread_create(&device->thread, NULL, produce, device);
    }
    if (!on) {
        stop(device);
        while (device->done_count-- > 0 && read(device->ready, &count, sizeof count) > 0)
            ;
        device->queued_count = device->done_count = 0;
        for (int i = 0; i < device->buffers; i++)
            device->buffer[i].flags &= ~(V4L2_BUF_FLAG_QUEUED | V4L2_BUF_FLAG_DONE);
    }
    return 0;
}

/* What the program calls */

static int answer(struct device *device, unsigned long request, void *argument) {
    struct v4l2_capability *capability = argument;
    struct v4l2_format *format = argument;
    struct v4l2_input *input = argument;
    struct v4l2_buffer *buffer = argument;
    uint64_t count;
    read_control();
    if (settings.unplugged)
        return ENODEV;
    switch ((uint32_t)request) {
    case VIDIOC_QUERYCAP:
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "emulator");
        strcpy((char *)capability->card, "Emulated grabber");
        strcpy((char *)capability->bus_info, "platform:emulator");
        capability->device_caps = (settings.output ? V4L2_CAP_VIDEO_OUTPUT : V4L2_CAP_VIDEO_CAPTURE) | V4L2_CAP_STREAMING;
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    case VIDIOC_ENUM_FMT: return enum_formats(argument);
    case VIDIOC_ENUM_FRAMESIZES: return enum_sizes(argument);
    case VIDIOC_ENUM_FRAMEINTERVALS: return enum_intervals(argument);
    case VIDIOC_ENUMINPUT:
        if (input->index)
            return EINVAL;
        memset(input, 0, sizeof *input);
        strcpy((char *)input->name, "Emulated input");
        input->type = V4L2_INPUT_TYPE_CAMERA;
        input->status = settings.nosignal ? V4L2_IN_ST_NO_SIGNAL : 0;
        return 0;
    case VIDIOC_G_INPUT: *(int *)argument = 0; return 0;
    case VIDIOC_S_INPUT: return *(int *)argument ? EINVAL : 0;
    case VIDIOC_G_FMT:
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
            return EINVAL;
        if (settings.width && !device->streaming)
            fit(&device->format);
        format->fmt.pix = device->format;
        return 0;
    case VIDIOC_S_FMT:
    case VIDIOC_TRY_FMT:
        if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
            return EINVAL;
        if ((uint32_t)request == VIDIOC_S_FMT && (settings.busy || device->streaming))
            return EBUSY;
        fit(&format->fmt.pix);
        if ((uint32_t)request == VIDIOC_S_FMT) {
            const struct v4l2_pix_format *pix = &format->fmt.pix;
            device->format = *pix;
            device->period = (struct v4l2_fract){1, nearest(pix->pixelformat, pix->width, pix->height)->rate[0]};
        }
        return 0;
    case VIDIOC_G_PARM:
        ((struct v4l2_streamparm *)argument)->parm.capture.timeperframe = device->period;
        ((struct v4l2_streamparm *)argument)->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        return 0;
    case VIDIOC_S_PARM: return set_period(device, argument);
    case VIDIOC_REQBUFS: return request_buffers(device, argument);
    case VIDIOC_QUERYBUF:
        if (buffer->index >= (uint32_t)device->buffers)
            return EINVAL;
        *buffer = device->buffer[buffer->index];
        return 0;
    case VIDIOC_QBUF: return enqueue(device, argument);
    case VIDIOC_DQBUF: return dequeue(device, argument);
    case VIDIOC_STREAMON: return stream(device, 1);
    case VIDIOC_STREAMOFF: return stream(device, 0);
    case VIDIOC_SUBSCRIBE_EVENT: device->subscribed = 1; return 0;
    case VIDIOC_DQEVENT:
        if (read(device->events, &count, sizeof count) < 0)
            return ENOENT;
        memset(argument, 0, sizeof(struct v4l2_event));
        ((struct v4l2_event *)argument)->type = V4L2_EVENT_SOURCE_CHANGE;
        ((struct v4l2_event *)argument)->u.src_change.changes = V4L2_EVENT_SRC_CH_RESOLUTION;
        return 0;
    default: return ENOTTY;
    }
}

static int open_device(int flags) {
    struct device *device = calloc(1, sizeof *device);
    int place = 0, error = 0;
    pthread_mutex_lock(&lock);
    read_control();
    while (place < MAX_DEVICES && devices[place])
        place++;
    error = settings.unplugged ? ENODEV : settings.denied ? EACCES : place == MAX_DEVICES ? EBUSY : 0;
    if (!error && device) {
        device->fd = memfd_create("v4l2-emulator", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
        device->ready = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        device->events = eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK | EFD_CLOEXEC);
        device->nonblocking = flags & O_NONBLOCK;
        device->format.pixelformat = modes[0].fourcc;
        device->format.width = modes[0].width;
        device->format.height = modes[0].height;
        device->period = (struct v4l2_fract){1, modes[0].rate[0]};
        fit(&device->format);
        load_jpeg();
        devices[place] = device;
    }
    pthread_mutex_unlock(&lock);
    if (!error)
        return device->fd;
    free(device);
    errno = error;
    return -1;
}

static int ours(const char *path) {
    pthread_once(&once, start);
    return device_path && path && !strcmp(path, device_path);
}

#define MODE(flags, mode)                                                                                              \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                               \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode = va_arg(list, mode_t);                                                                                   \
        va_end(list);                                                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return ours(path) ? open_device(flags) : real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return ours(path) ? open_device(flags) : real_open(path, flags | O_LARGEFILE, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return ours(path) ? open_device(flags) : real_openat(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return ours(path) ? open_device(flags) : real_openat(folder, path, flags | O_LARGEFILE, mode);
}

int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }

int ioctl(int fd, unsigned long request, ...) {
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    pthread_once(&once, start);
    pthread_mutex_lock(&lock);
    struct device *device = find(fd);
    int error = device ? answer(device, request, argument) : 0;
    pthread_mutex_unlock(&lock);
    if (!device)
        return real_ioctl(fd, request, argument);
    errno = error ? error : errno;
    return error ? -1 : 0;
}

int close(int fd) {
    pthread_once(&once, start);
    pthread_mutex_lock(&lock);
    struct device *device = find(fd);
    if (device) {
        device->streaming = 0;
        stop(device);
        for (int i = 0; i < MAX_DEVICES; i++)
            if (devices[i] == device)
                devices[i] = NULL;
        if (device->memory)
            munmap(device->memory, device->buffers * device->slot_bytes);
        real_close(device->ready);
        real_close(device->events);
        free(device->blank);
        free(device);
    }
    pthread_mutex_unlock(&lock);
    return real_close(fd);
}

/* Each of our descriptors becomes two that can be waited for; an unplugged one is an error at once. */
int poll(struct pollfd *wanted, nfds_t count, int timeout_ms) {
    struct pollfd real[2 * 64];
    uint64_t deadline_ns = now_ns(CLOCK_MONOTONIC) + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;
    pthread_once(&once, start);
    pthread_mutex_lock(&lock);
    int any = 0;
    for (nfds_t i = 0; i < count; i++)
        any |= find(wanted[i].fd) != NULL;
    pthread_mutex_unlock(&lock);
    if (!any || count > 64)
        return real_poll(wanted, count, timeout_ms);
    for (;;) {
        int unplugged = 0;
        pthread_mutex_lock(&lock);
        read_control();
        for (nfds_t i = 0; i < count; i++) {
            struct device *device = find(wanted[i].fd);
            unplugged |= device && settings.unplugged;
            real[2 * i] = device ? (struct pollfd){wanted[i].events & POLLIN ? device->ready : -1, POLLIN, 0} : wanted[i];
            real[2 * i + 1] = (struct pollfd){device && wanted[i].events & POLLPRI ? device->events : -1, POLLIN, 0};
        }
        uint64_t now = now_ns(CLOCK_MONOTONIC);
        int left_ms = timeout_ms < 0 ? 20 : now < deadline_ns ? (int)((deadline_ns - now + 999999) / 1000000) : 0;
        int step_ms = unplugged ? 0 : left_ms < 20 ? left_ms : 20;
        pthread_mutex_unlock(&lock);
        if (real_poll(real, 2 * count, step_ms) < 0)
            return -1;
        int found = 0;
        pthread_mutex_lock(&lock);
        for (nfds_t i = 0; i < count; i++) {
            struct device *device = find(wanted[i].fd);
            wanted[i].revents = device ? 0 : real[2 * i].revents;
            if (device && settings.unplugged)
                wanted[i].revents = POLLERR | POLLHUP;
            else if (device)
                wanted[i].revents = (real[2 * i].revents & POLLIN) | (real[2 * i + 1].revents & POLLIN ? POLLPRI : 0);
            found += wanted[i].revents != 0;
        }
        pthread_mutex_unlock(&lock);
        if (found || (timeout_ms >= 0 && left_ms <= step_ms))
            return found;
    }
}

int __poll_chk(struct pollfd *wanted, nfds_t count, int timeout_ms, size_t size) {
    (void)size;
    return poll(wanted, count, timeout_ms);
}

int select(int count, fd_set *reading, fd_set *writing, fd_set *urgent, struct timeval *timeout) {
    static int (*real_select)(int, fd_set *, fd_set *, fd_set *, struct timeval *);
    struct pollfd wanted[64];
    nfds_t used = 0;
    int any = 0;
    pthread_once(&once, start);
    if (!real_select)
        real_select = dlsym(RTLD_NEXT, "select");
    pthread_mutex_lock(&lock);
    for (int fd = 0; fd < count; fd++) {
        short events = (reading && FD_ISSET(fd, reading) ? POLLIN : 0) | (writing && FD_ISSET(fd, writing) ? POLLOUT : 0) |
                       (urgent && FD_ISSET(fd, urgent) ? POLLPRI : 0);
        any |= events && find(fd) != NULL;
        if (events && used < 64)
            wanted[used++] = (struct pollfd){fd, events, 0};
    }
    pthread_mutex_unlock(&lock);
    if (!any)
        return real_select(count, reading, writing, urgent, timeout);
    int found = poll(wanted, used, timeout ? timeout->tv_sec * 1000 + timeout->tv_usec / 1000 : -1), bits = 0;
    for (nfds_t i = 0; found >= 0 && i < used; i++) {
        int fd = wanted[i].fd, gone = wanted[i].revents & (POLLERR | POLLHUP);
        struct { fd_set *set; int hit; } sets[] = {{reading, wanted[i].revents & POLLIN || gone},
                                                   {writing, wanted[i].revents & POLLOUT},
                                                   {urgent, wanted[i].revents & POLLPRI}};
        for (int j = 0; j < 3; j++)
            if (sets[j].set && FD_ISSET(fd, sets[j].set)) {
                if (!sets[j].hit)
                    FD_CLR(fd, sets[j].set);
                bits += sets[j].hit != 0;
            }
    }
    return found < 0 ? found : bits;
}
