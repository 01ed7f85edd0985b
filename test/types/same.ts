// An assertion about types: it compiles only where both are the same.

type IsSame<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false

/** Takes its two arguments only if `A` and `B` are the same type: `same<number, typeof port>()`. */
export declare function same<A, B>(...proof: IsSame<A, B> extends true ? [] : [neverSame: never]): void
