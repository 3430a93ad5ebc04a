/** How far this computer's clock is from the server's, in milliseconds. */
let offset = 0

/** A Date header has whole seconds, and the answer was on its way for a while: less than this is no difference. */
const tolerance = 2000

/** The server's time in milliseconds, as far as its answers told: leases end by that clock. */
export function now(): number {
  return toServer(Date.now())
}

/** A time of this computer's clock as one of the server's. */
export function toServer(time: number): number {
  return time + offset
}

/** Learns the server's time from one of its answers. */
export function learnTime(response: Response) {
  const server = Date.parse(response.headers.get('Date') ?? '')
  if (Number.isNaN(server)) return
  const difference = server + 500 - Date.now()
  offset = Math.abs(difference) > tolerance ? difference : 0
}
