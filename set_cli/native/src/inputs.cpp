// From a data set's rows to a batch of columns: gather, scale, change images, mix; compiled once per instruction set.
#include "kernels.hpp"
#include "simd.hpp"

namespace set_native::SET_NAMESPACE {
namespace {

constexpr int block = turned;

// The same of a whole block of 16 samples and 16 features, in registers.
INLINE void turn_block(const float* in, int64_t stride, float* out, int64_t out_stride) {
    for (int f = 0; f < block; f += width)
        for (int b = 0; b < block; b += width) {
            vec square[width];
#pragma GCC unroll 16
            for (int i = 0; i < width; i++) square[i] = load(in + (b + i) * stride + f);
            turn_square(square);
#pragma GCC unroll 16
            for (int i = 0; i < width; i++) store(out + (f + i) * out_stride + b, square[i]);
        }
}

// out[f0 + f][b0 + b] = in[b][f], a block of `samples` rows that lie `stride` apart
INLINE void turn(const float* in, int64_t stride, Columns out, int64_t f0, int64_t features, int64_t b0, int samples) {
    for (int64_t f = 0; f < features; f += block) {
        const int wide = features - f < block ? static_cast<int>(features - f) : block;
        float* to = out.row(f0 + f) + b0;
        if (wide == block && samples == block) turn_block(in + f, stride, to, out.stride);
        else
            for (int j = 0; j < wide; j++)
                for (int b = 0; b < samples; b++) to[j * out.stride + b] = in[b * stride + f + j];
    }
}

template <typename T>
INLINE void scale_row(const T* __restrict from, const float* __restrict offset, const float* __restrict scale,
                      float* __restrict to, int64_t features) {
    for (int64_t f = 0; f < features; f++) to[f] = (static_cast<float>(from[f]) - offset[f]) * scale[f];
}

INLINE void read_row(const Source& source, int64_t row, int64_t first, int64_t features, float* to) {
    const int64_t at = row * source.features + first;
    const float *offset = source.offset + first, *scale = source.scale + first;
    if (source.is_bytes) scale_row(static_cast<const uint8_t*>(source.data) + at, offset, scale, to, features);
    else scale_row(static_cast<const float*>(source.data) + at, offset, scale, to, features);
}

// One output image: for every pixel the four neighbours of where it comes from, edges repeated outwards.
// `wide` holds the scaled input with its last row and column repeated once, so that neighbours always exist.
void move_image(const float* map, Image image, const float* wide, float* to) {
    const int height = image.height, width_ = image.width, step = width_ + 1;
    const float half_w = 0.5f * static_cast<float>(width_ - 1), half_h = 0.5f * static_cast<float>(height - 1);
    const int64_t plane = static_cast<int64_t>(step) * (height + 1), pixels = static_cast<int64_t>(width_) * height;
    constexpr int run = 64;
    int32_t at[run];
    float right[run], down[run];
    for (int i = 0; i < height; i++) {
        const float y = half_h > 0 ? static_cast<float>(i) / half_h - 1.0f : 0.0f;
        for (int j0 = 0; j0 < width_; j0 += run) {
            const int count = width_ - j0 < run ? width_ - j0 : run;
            for (int j = 0; j < count; j++) {
                const float x = half_w > 0 ? static_cast<float>(j0 + j) / half_w - 1.0f : 0.0f;
                float from_x = (map[0] * x + map[1] * y + map[2] + 1.0f) * half_w;
                float from_y = (map[3] * x + map[4] * y + map[5] + 1.0f) * half_h;
                from_x = from_x > 0 ? from_x : 0;
                from_y = from_y > 0 ? from_y : 0;
                from_x = from_x < 2 * half_w ? from_x : 2 * half_w;
                from_y = from_y < 2 * half_h ? from_y : 2 * half_h;
                const int32_t column = static_cast<int32_t>(from_x), line = static_cast<int32_t>(from_y);
                at[j] = line * step + column;
                right[j] = from_x - static_cast<float>(column);
                down[j] = from_y - static_cast<float>(line);
            }
            for (int c = 0; c < image.channels; c++) {
                const float* from = wide + c * plane;
                float* out = to + c * pixels + static_cast<int64_t>(i) * width_ + j0;
                for (int j = 0; j < count; j++) {
                    const float* p = from + at[j];
                    const float above = p[0] + right[j] * (p[1] - p[0]);
                    const float below = p[step] + right[j] * (p[step + 1] - p[step]);
                    out[j] = above + down[j] * (below - above);
                }
            }
        }
    }
}

INLINE int within(int value, int least, int largest) {
    return value < least ? least : value > largest ? largest : value;
}

// The image as it is read `down` and `right` pixels further on, reflected at its borders (the outermost pixels are not
// repeated); `beyond`: with its last row and column repeated once.
void place(const float* image, Image shape, int down, int right, bool beyond, float* to) {
    const int height = shape.height, width_ = shape.width, last = 2 * (width_ - 1);
    const int before = within(-right, 0, width_ - 1), behind = within(width_ - right, 1, width_);
    for (int c = 0; c < shape.channels; c++)
        for (int i = 0; i < height + beyond; i++) {
            int line = within((i < height ? i : height - 1) + down, 1 - height, 2 * (height - 1));
            line = line < 0 ? -line : line < height ? line : 2 * (height - 1) - line;
            const float* from = image + (static_cast<int64_t>(c) * height + line) * width_;
            for (int j = 0; j < before; j++) to[j] = from[-right - j];
            for (int j = before; j < behind; j++) to[j] = from[j + right];
            for (int j = behind; j < width_; j++) to[j] = from[last - j - right];
            if (beyond) to[width_] = to[width_ - 1];
            to += width_ + beyond;
        }
}

// What the lines and columns of a square become.
void fill_square(const int32_t* square, Image shape, const float* blank, float* image) {
    const int height = shape.height, width_ = shape.width;
    const int bottom = within(square[1], 0, height), left = within(square[2], 0, width_);
    const int right = within(square[3], 0, width_);
    for (int c = 0; c < shape.channels; c++)
        for (int i = within(square[0], 0, height); i < bottom; i++) {
            const int64_t at = (static_cast<int64_t>(c) * height + i) * width_;
            for (int j = left; j < right; j++) image[at + j] = blank[at + j];
        }
}

}  // namespace

void gather(const Source& source, Range mine, const int64_t* rows, Columns out, int64_t n_batch) {
    constexpr int64_t strip = 64;  // features at a time: what one cache line of bytes holds
    for (int64_t first = mine.begin; first < mine.end; first += strip) {
        const int64_t features = mine.end - first < strip ? mine.end - first : strip;
        for (int64_t b0 = 0; b0 < n_batch; b0 += block) {
            const int samples = n_batch - b0 < block ? static_cast<int>(n_batch - b0) : block;
            float scaled[block][strip];
            for (int b = 0; b < samples; b++) read_row(source, rows[b0 + b], first, features, scaled[b]);
            turn(scaled[0], strip, out, first, features, b0, samples);
        }
    }
}

void gather_changed(const Source& source, Range mine, Image image, const int64_t* rows, const Changes& changes,
                    Columns out, float* scratch) {
    const int64_t features = source.features;
    const bool stays = !changes.crops && !changes.maps;
    float *still = scratch, *all = still + features, *wide = all + features * block;
    for (int64_t b0 = mine.begin; b0 < mine.end; b0 += block) {
        const int samples = mine.end - b0 < block ? static_cast<int>(mine.end - b0) : block;
        for (int b = 0; b < samples; b++) {
            float* to = all + b * features;
            read_row(source, rows[b0 + b], 0, features, stays ? to : still);
            if (!stays) {
                const int down = changes.crops ? within(changes.crops[2 * (b0 + b)], 1 - image.height, image.height - 1) : 0;
                const int right = changes.crops ? within(changes.crops[2 * (b0 + b) + 1], 1 - image.width, image.width - 1) : 0;
                place(still, image, down, right, changes.maps, changes.maps ? wide : to);
                if (changes.maps) move_image(changes.maps + 6 * (b0 + b), image, wide, to);
            }
            if (changes.squares) fill_square(changes.squares + 4 * (b0 + b), image, changes.blank, to);
        }
        turn(all, features, out, 0, features, b0, samples);
    }
}

void mix(Range mine, Columns x, const int64_t* __restrict partners, const float* __restrict shares, int64_t n_batch,
         float* __restrict scratch) {
    float *__restrict rest = scratch + n_batch, *__restrict still = scratch;
    int32_t* __restrict from = reinterpret_cast<int32_t*>(rest + n_batch);  // of which a gather takes twice as many
    for (int64_t b = 0; b < n_batch; b++) rest[b] = 1.0f - shares[b], from[b] = static_cast<int32_t>(partners[b]);
    for (int64_t f = mine.begin; f < mine.end; f++) {
        float* __restrict row = x.row(f);
        for (int64_t b = 0; b < n_batch; b++) still[b] = row[b];
        for (int64_t b = 0; b < n_batch; b++) row[b] = still[b] + rest[b] * (still[from[b]] - still[b]);
    }
}

void to_columns(const float* in, Range mine, int64_t stride_batch, int64_t stride_feature, Columns out,
                int64_t n_batch) {
    constexpr int64_t strip = 4 * block;  // features at a time: as many cache lines in a row are fetched ahead
    for (int64_t f0 = mine.begin; f0 < mine.end; f0 += strip) {
        const int64_t wide = mine.end - f0 < strip ? mine.end - f0 : strip;
        if (stride_batch == 0) {  // of a sum's gradient all rows are one
            for (int64_t f = f0; f < f0 + wide; f++)
                for (int64_t b = 0; b < n_batch; b++) out.row(f)[b] = in[f * stride_feature];
            continue;
        }
        for (int64_t b0 = 0; b0 < n_batch; b0 += block) {
            const int samples = n_batch - b0 < block ? static_cast<int>(n_batch - b0) : block;
            const float* from = in + b0 * stride_batch + f0 * stride_feature;
            if (stride_feature == 1) {
                turn(from, stride_batch, out, f0, wide, b0, samples);
            } else {
                for (int64_t f = 0; f < wide; f++)
                    for (int b = 0; b < samples; b++)
                        out.row(f0 + f)[b0 + b] = from[b * stride_batch + f * stride_feature];
            }
        }
    }
}

}  // namespace set_native::SET_NAMESPACE
