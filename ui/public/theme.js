// Sets the theme before the first paint. A file, not an inline script: the content security policy allows no other.
;(function () {
  var choice = localStorage.getItem('theme')
  var dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches)
  document.documentElement.classList.toggle('dark', dark)
})()
