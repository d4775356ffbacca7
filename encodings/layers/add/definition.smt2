; uses: floats.smt2
; ONNX Runtime's QLinearAdd: two fused multiply-adds, then half to even. ra = fl(sa/sc), rb = fl(sb/sc),
; offset = fl(zc - fma(rb, zb, fl(ra * za))): the zero points are inside the offset and are rounded with it.
(define-fun add-fma ((a Acc) (b Acc) (ra Float32) (rb Float32) (offset Float32) (lo Acc) (hi Acc)) Acc
  (nearest-half-even
    (clamp-float32
      (fp.fma RNE (to-float32 a) ra (fp.fma RNE (to-float32 b) rb offset))
      (to-float32 lo) (to-float32 hi))))
