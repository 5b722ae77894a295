"use strict";(self.rspackChunkcampushub_session=self.rspackChunkcampushub_session||[]).push([[266],{475(e,t,a){var n=a(601),r=a.n(n),o=a(314),s=(a.n(o))()(r());s.push([e.id,`.campushub-Usage {
  display: flex;
  min-width: 0;
  margin-left: auto;
  overflow: hidden;
  align-items: center;
  padding: 0 8px;
}

.campushub-Usage.lm-mod-hidden {
  display: none;
}

.campushub-Usage button {
  display: flex;
  gap: 12px;
  padding: 2px 8px;
  border: none;
  border-radius: 3px;
  background: none;
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
  font-variant-numeric: tabular-nums;
  white-space: nowrap;
  cursor: pointer;
}

.campushub-Usage button:hover,
.campushub-Usage button:focus-visible {
  background: var(--jp-layout-color2);
}

.campushub-Usage span[data-level='warning'],
.campushub-Usage span[data-level='critical'] {
  padding: 0 6px;
  border-radius: 3px;
  font-weight: 600;
}

/* Read by everybody on these backgrounds, in light and in dark themes. */
.campushub-Usage span[data-level='warning'] {
  background: #ffca28;
  color: #212121;
}

.campushub-Usage span[data-level='critical'] {
  background: #c62828;
  color: #fff;
}

.campushub-Programs {
  min-width: 480px;
}

.campushub-Programs table {
  width: 100%;
  border-collapse: collapse;
}

.campushub-Programs thead td {
  color: var(--jp-ui-font-color2);
}

.campushub-Programs td {
  padding: 3px 8px;
}

.campushub-Programs td:nth-child(2),
.campushub-Programs td:nth-child(3),
.campushub-Programs td:nth-child(4) {
  text-align: right;
  white-space: nowrap;
}

.campushub-Programs td:first-child {
  max-width: 360px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.campushub-Space td:last-child {
  white-space: normal;
}

.campushub-Space p[role='status']:empty {
  display: none;
}

.campushub-Space p button {
  margin-left: 8px;
}

.campushub-Announcement {
  position: fixed;
  bottom: 40px;
  left: 50%;
  z-index: 10001;
  display: flex;
  max-width: min(720px, 90vw);
  gap: 12px;
  align-items: start;
  padding: 10px 16px;
  border-left: 4px solid var(--jp-warn-color1);
  transform: translateX(-50%);
  background: var(--jp-layout-color1);
  box-shadow: var(--jp-elevation-z6);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size2);
  white-space: pre-line;
}

.campushub-Announcement[hidden] {
  display: none;
}

.campushub-Announcement button {
  border: none;
  background: none;
  color: inherit;
  font-size: 20px;
  line-height: 1;
  cursor: pointer;
}
`,""]),a.d(t,{},{A:s})},646(e,t,a){var n=a(601),r=a.n(n),o=a(314),s=a.n(o),i=a(475),c=s()(r());c.i(i.A),c.push([e.id,`
`,""]),a.d(t,{},{A:c})},314(e){e.exports=function(e){var t=[];return t.toString=function(){return this.map(function(t){var a="",n=void 0!==t[5];return t[4]&&(a+="@supports (".concat(t[4],") {")),t[2]&&(a+="@media ".concat(t[2]," {")),n&&(a+="@layer".concat(t[5].length>0?" ".concat(t[5]):""," {")),a+=e(t),n&&(a+="}"),t[2]&&(a+="}"),t[4]&&(a+="}"),a}).join("")},t.i=function(e,a,n,r,o){"string"==typeof e&&(e=[[null,e,void 0]]);var s={};if(n)for(var i=0;i<this.length;i++){var c=this[i][0];null!=c&&(s[c]=!0)}for(var u=0;u<e.length;u++){var p=[].concat(e[u]);n&&s[p[0]]||(void 0!==o&&(void 0===p[5]||(p[1]="@layer".concat(p[5].length>0?" ".concat(p[5]):""," {").concat(p[1],"}")),p[5]=o),a&&(p[2]&&(p[1]="@media ".concat(p[2]," {").concat(p[1],"}")),p[2]=a),r&&(p[4]?(p[1]="@supports (".concat(p[4],") {").concat(p[1],"}"),p[4]=r):p[4]="".concat(r)),t.push(p))}},t}},601(e){e.exports=function(e){return e[1]}},665(e,t,a){a.r(t);var n=a(72),r=a.n(n),o=a(825),s=a.n(o),i=a(659),c=a.n(i),u=a(56),p=a.n(u),l=a(540),d=a.n(l),f=a(113),h=a.n(f),m=a(646),v={};v.styleTagTransform=h(),v.setAttributes=p(),v.insert=c().bind(null,"head"),v.domAPI=s(),v.insertStyleElement=d(),r()(m.A,v);let b=m.A&&m.A.locals?m.A.locals:void 0;a.d(t,{},{default:b})},72(e){var t=[];function a(e){for(var a=-1,n=0;n<t.length;n++)if(t[n].identifier===e){a=n;break}return a}function n(e,n){for(var r={},o=[],s=0;s<e.length;s++){var i=e[s],c=n.base?i[0]+n.base:i[0],u=r[c]||0,p="".concat(c," ").concat(u);r[c]=u+1;var l=a(p),d={css:i[1],media:i[2],sourceMap:i[3],supports:i[4],layer:i[5]};if(-1!==l)t[l].references++,t[l].updater(d);else{var f=function(e,t){var a=t.domAPI(t);return a.update(e),function(t){t?(t.css!==e.css||t.media!==e.media||t.sourceMap!==e.sourceMap||t.supports!==e.supports||t.layer!==e.layer)&&a.update(e=t):a.remove()}}(d,n);n.byIndex=s,t.splice(s,0,{identifier:p,updater:f,references:1})}o.push(p)}return o}e.exports=function(e,r){var o=n(e=e||[],r=r||{});return function(e){e=e||[];for(var s=0;s<o.length;s++){var i=a(o[s]);t[i].references--}for(var c=n(e,r),u=0;u<o.length;u++){var p=a(o[u]);0===t[p].references&&(t[p].updater(),t.splice(p,1))}o=c}}},659(e){var t={};e.exports=function(e,a){var n=function(e){if(void 0===t[e]){var a=document.querySelector(e);if(window.HTMLIFrameElement&&a instanceof window.HTMLIFrameElement)try{a=a.contentDocument.head}catch(e){a=null}t[e]=a}return t[e]}(e);if(!n)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");n.appendChild(a)}},540(e){e.exports=function(e){var t=document.createElement("style");return e.setAttributes(t,e.attributes),e.insert(t,e.options),t}},56(e,t,a){e.exports=function(e){var t=a.nc;t&&e.setAttribute("nonce",t)}},825(e){e.exports=function(e){if("u"<typeof document)return{update:function(){},remove:function(){}};var t=e.insertStyleElement(e);return{update:function(a){var n,r,o;n="",a.supports&&(n+="@supports (".concat(a.supports,") {")),a.media&&(n+="@media ".concat(a.media," {")),(r=void 0!==a.layer)&&(n+="@layer".concat(a.layer.length>0?" ".concat(a.layer):""," {")),n+=a.css,r&&(n+="}"),a.media&&(n+="}"),a.supports&&(n+="}"),(o=a.sourceMap)&&"u">typeof btoa&&(n+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(o))))," */")),e.styleTagTransform(n,t,e.options)},remove:function(){var e;null===(e=t).parentNode||e.parentNode.removeChild(e)}}}},113(e){e.exports=function(e,t){if(t.styleSheet)t.styleSheet.cssText=e;else{for(;t.firstChild;)t.removeChild(t.firstChild);t.appendChild(document.createTextNode(e))}}}}]);