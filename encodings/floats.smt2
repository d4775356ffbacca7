; uses: integers.smt2
; IEEE 754 binary32 and binary64. RNE rounds half to even, RNA half away from zero; fp.mul, fp.add and fp.fma round once.

(define-fun to-float32 ((x Acc)) Float32 ((_ to_fp 8 24) RNE x))
(define-fun to-float64 ((x Acc)) Float64 ((_ to_fp 11 53) RNE x))
; Defined where the rounded number fits into 32 bits; every use says why it does.
(define-fun nearest-half-even ((x Float32)) Acc ((_ fp.to_sbv 32) RNE x))
(define-fun nearest-half-away ((x Float64)) Acc ((_ fp.to_sbv 32) RNA x))
(define-fun clamp-float32 ((x Float32) (lo Float32) (hi Float32)) Float32
  (ite (fp.lt x lo) lo (ite (fp.gt x hi) hi x)))
; int16 saturation, then the zero point, then the output's range: how the x86 kernels of PyTorch pack their results.
(define-fun pack ((x Acc) (zero-point Acc) (lo Acc) (hi Acc)) Acc
  (clamp (bvadd (widen (clamp (widen x) (bvneg (_ bv32768 32)) (_ bv32767 32))) (widen zero-point)) lo hi))
