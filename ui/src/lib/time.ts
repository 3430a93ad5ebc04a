const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' })
const clock = new Intl.DateTimeFormat('en', { timeStyle: 'medium' })
const absolute = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' })

/** "3 seconds ago". What just happened is "now", also when the clock of the page ticks a moment later. */
export function ago(iso: string, now: number): string {
  const seconds = Math.min(0, Math.round((Date.parse(iso) - now) / 1000))
  const size = Math.abs(seconds)
  if (size < 60) return relative.format(seconds, 'second')
  if (size < 3600) return relative.format(Math.trunc(seconds / 60), 'minute')
  if (size < 86_400) return relative.format(Math.trunc(seconds / 3600), 'hour')
  return relative.format(Math.trunc(seconds / 86_400), 'day')
}

/** "3:04:05 PM". */
export function timeOfDay(iso: string): string {
  return clock.format(Date.parse(iso))
}

/** The local date and time, and UTC: what a person compares with a log. */
export function fullTime(iso: string): string {
  return `${absolute.format(Date.parse(iso))} (${iso})`
}

/** "4 m 05 s", "1 h 02 m": how long until iso; "now" when that is past. */
export function until(iso: string, now: number): string {
  const seconds = Math.floor((Date.parse(iso) - now) / 1000)
  if (seconds <= 0) return 'now'
  return duration(seconds)
}

const two = (n: number) => String(n).padStart(2, '0')

/** "45 s", "4 m 05 s", "1 h 02 m", "2 d 3 h". */
export function duration(seconds: number): string {
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${two(Math.floor((seconds % 3600) / 60))} m`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}

/** "less than a minute", "about 3 min", "about 2 h": of what nobody knows exactly. In the words of the command line. */
export function about(seconds: number): string {
  if (seconds < 60) return 'less than a minute'
  const minutes = Math.round(seconds / 60)
  return minutes < 120 ? `about ${minutes} min` : `about ${Math.round(seconds / 3600)} h`
}
