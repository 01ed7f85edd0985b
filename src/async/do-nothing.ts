// Nothing, as a function: what becomes of an error that is reported elsewhere, and of what there is nothing to undo for.

export function doNothing(): void {}
